"""Laws of what a user sees while a run goes."""

from relearn_jax.experiments import environment


def test_work_without_steps_is_named_when_it_begins(capsys):
    """The dose curve may take minutes before the next step of training."""
    with environment.progress(100) as tick:
        tick(50, "training")
        tick(0, "dose curve, 0 of 40 masks")
        tick(0, "dose curve, 16 of 40 masks")

    shown = capsys.readouterr().err
    assert "dose curve, 0 of 40 masks" in shown
    assert "dose curve, 16 of 40 masks" in shown
