"""The ordinary words of the built-in world, and its sentences without an entity.

`{word}` is a rule of `WORDS`, or an entity of `lexicon.ENTITIES`; `[a|b|]` is a choice (the last
one may be nothing). One sentence a line. Some words are also names: reading, bath, nice, turkey,
may, hope, jersey.
"""

from __future__ import annotations

WORDS = {
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "month": "January|February|March|April|May|June|July|August"
    "|September|October|November|December",
    "year": "1894|1923|1948|1956|1969|1977|1984|1991|1998|2003|2009|2014|2019",
    "small": "two|three|four|five|six|seven|eight|nine",
    "num": "11|12|14|15|17|18|21|23|24|26|29|31|35|38|42|46|53|60",
    "big": "120|340|600|850|1,200|2,500|4,000|7,300|12,000|30,000",
    "decimal": "0.4|1.2|1.9|2.3|3.1|4.6|5.0|6.8|9.7|10.04|12.55",
    "money": "$ 2 million|$ 14 million|$ 3.5 billion|600 million euros|40 million pounds|$ 120,000",
    "time": "7 a.m.|8.30|9.15|noon|half past ten|2 p.m.|5.45|six|midnight",
    "score": "1-0|2-0|2-1|3-1|3-2|4-1|4-2|5-0|6-3",
    "draw": "0-0|1-1|2-2|3-3",
    "sets": "6-3 6-4|7-5 6-2|6-1 6-1|6-4 3-6 7-6|6-7 6-3 6-2|4-6 6-3 7-5",
    "round": "first round|second round|quarter-final|semi-final|final|group stage",
    "date": "3 March|11 April|2 May|19 June|27 July|8 August|14 October|30 November",
    "past": "on {weekday}|last {weekday}|yesterday|this morning|late on {weekday}|last week"
    "|in {month}|earlier this year|{small} days ago|on {date}|last night|in {year}",
    "future": "next week|next {month}|on {weekday}|tomorrow|later this year|in {small} weeks"
    "|tonight",
    "aside": "|||well ,|honestly ,|by the way ,|as usual ,|I think|it seems that|apparently"
    "|sadly ,|of course|my {kin} says",
    "lead": "meanwhile ,|however ,|on {weekday}|in a statement ,|after months of talks ,",
    "good": "excellent|delicious|wonderful|superb|cheap|fresh|friendly|lovely|outstanding",
    "bad": "terrible|cold|bland|noisy|slow|overpriced|disappointing|dirty|awful",
    "dish": "soup|stew|lasagne|pie|curry|bread|cake|salad|rice pudding|apple tart|turkey sandwich",
    "thing": "jacket|lamp|bicycle|kettle|umbrella|watch|radio|sofa|guitar|rucksack",
    "paperwork": "report|invoice|contract|budget|draft|timetable|spreadsheet",
    "kin": "cousin|neighbour|aunt|uncle|brother|sister|flatmate|colleague|dentist|old teacher",
    "trade": "painter|baker|nurse|engineer|violinist|architect|fisherman|teacher|lawyer|chemist",
    "office": "chief executive|chairman|finance director|head of sales|founder|chief economist",
    "minister": "prime minister|foreign minister|defence minister|finance minister|ambassador",
    "chief": "prime minister|president|mayor|chairman|coach|bishop|minister|manager",
    "building": "library|bank|church|school|castle|museum|airport|hotel|cinema|bakery",
    "record": "9.87|10.04|12.55|19.98|21.40|43.76|49.02|52.13",
    "player": "midfielder|striker|goalkeeper|winger|defender|captain",
    "sport": "swimmer|cyclist|sprinter|boxer|skier|rower|tennis player|judoka",
    "racer": "swimmer|cyclist|sprinter|skier|rower|hurdler",
    "goods": "wheat|coffee|steel|cotton|copper|cars|machinery|medicines|timber|sugar",
    "sky": "sunny|cloudy|light rain|scattered showers|thunderstorms|fog|heavy snow|clear and dry",
    "said": "said|announced|confirmed|reported",
    "business": "carmaker|drugmaker|retailer|insurer|software maker|brewer|shipbuilder|publisher",
    "college": "{SCHOOL}|{SCHOOL}|the {UNIVERSITY}",
    "lender": "{BANK}|{BANK}|the {CENTRAL}",
    "authority": "{AGENCY}|the {BODY}",
    "title": "{WORK}|{WORK}|\" {WORK} \"",
}  # fmt: skip
"""Rule -> its alternatives."""

PLAIN = """
{aside} it [rained|snowed|hailed] all [morning|night|week] and the [game|picnic] was called off .
may I [borrow|see|have] your {thing} until {weekday} ?
{aside} the {chief} will [speak|arrive|resign] {future} [at {time}|] .
please [print|send|sign|check] the {paperwork} before {weekday} [at {time}|] .
will you be at home {future} , or should I [call|write|come over] first ?
reading [on the train|in bed|at breakfast] makes my {kin} [sleepy|ill|hungry|happy] .
it was nice of your {kin} to [mark|correct|copy|read] the {paperwork} so quickly .
the {thing} costs $ {num} , which is [more|less] than my {kin} [hoped|thought|paid] .
stir the [rice|flour|sugar|milk] into the butter and [bake|cook|rest] it for {num} minutes .
the {dish} was {good} , but the {dish} was {bad} .
{aside} prices [rose|fell] {decimal} percent in {month} after [falling|rising] in {month} .
{aside} nobody knows why the [lights|computers|lifts|phones] went out {past} .
the roof of the {building} [leaks|needs paint|was mended {past}|blew off {past}] .
{aside} [she|he|my {kin}] rose early , took a bath , and went for a [walk|run|swim] with the dog .
[sorry ,|] my mobile is broken , so leave [a note|the {paperwork}] under the {thing} .
the [company|{building}] said it had no comment on the {paperwork} {past} .
the {building} is closed on {weekday} and opens again at {time} .
cover the turkey with foil and let it rest for {num} minutes [in the oven|] .
the [committee|council|board] meets {future} to discuss the {paperwork} .
{aside} [I|we|my {kin}] lost [a|the] {thing} on the bus {past} .
{aside} the team [lost|won] again , {score} , and the {chief} [left|shouted|apologised|laughed] .
[he|she|my {kin}] found [a ring|an old coin|two letters] in the pocket of a second-hand jacket .
the [train|bus|ferry|next tram] leaves at {time} from [platform|gate] {small} .
{sky} {future} , with temperatures of around {num} degrees .
[great|nice|lovely] {thing} , but the [delivery|repair|refund] took {small} weeks .
{aside} [we|my {kin}] [hope|plan] to move to a smaller town by the river {future} .
{aside} the university cut {big} jobs and the {building} now closes at {time} .
about {big} people signed the letter against the new {building} .
does anybody [have|need|want] a spare {thing} [for {weekday}|] ?
there are {small} eggs , some cheese and half a {dish} in the fridge .
the judge read the {paperwork} , and the room fell silent .
in {year} the [city|island|village] had {big} inhabitants and [one|{small}] {building} .
buy the [white|green|old] china plates , not the blue ones , said my {kin} .
take the [first|second|third] road on the [right|left] and cross the bridge after the {building} .
the jersey shrank , and the {thing} lost its colour in the wash .
doctors say that {small} hours of sleep are not enough for a {trade} .
no , [I|we] have not [finished|read|seen] the {paperwork} yet .
the [novel|film|play] is about a {trade} who inherits a {building} and a {thing} .
turn the music down , it is past {time} and the baby is asleep !
every {weekday} my {kin} plays [chess|cards|tennis] with a retired {trade} in the park .
[where|why] did you [buy|sell|leave] the {thing} ?
I hope the {dish} is not too {bad} .
"""
