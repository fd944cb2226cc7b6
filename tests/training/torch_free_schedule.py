"""Hugging Face's linear schedule with warm-up, in plain Python."""


def linear(peak: float, steps: int, warmup: float) -> list[float]:
    rising = warmup * steps
    return [
        peak * (i / rising if i < rising else (steps - i) / (steps - rising)) for i in range(steps)
    ]
