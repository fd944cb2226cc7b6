"""The sentences with entities of the built-in world, by theme.

`{NAME}` is an entity of `lexicon.ENTITIES`, `{word}` a rule of `words.WORDS`, and `[a|b|]` a choice
(the last one may be nothing). One template a line; an indented line continues the one above. By
their position in a theme some templates belong to one split (`generator.OWNERS`).
"""

from __future__ import annotations

SPORT = """
{CLUB} [beat|defeated|edged|thrashed] {CLUB} {score} [at home|away|in extra time|] {past} .
{CLUB} , unbeaten since {month} , dropped two points at {CLUB} [after a late penalty|in the rain] .
{PERSON} scored twice as {CLUB} came from behind to [beat|draw with] {CLUB} {past} .
{CLUB} have signed {player} {PERSON} from {CLUB} for {money} .
{PERSON} [beat|overcame|swept past|lost to] {PERSON} {sets} in the {round} of the {EVENT} .
{NAT} [champion|teenager|number one|veteran] {PERSON} won the {EVENT} {past} .
{COUNTRY} will [face|meet] {COUNTRY} in the {round} of the {EVENT} {future} .
coach {LAST} said {CLUB} had deserved [the point|their win|to lose] .
the {EVENT} will be held in {CITY} [for the first time|in {month}|again] .
{CLUB} fans queued outside {SITE} long before [kick-off|the gates opened] .
{NAT} {racer} {PERSON} , {num} , set a national record of {record} seconds in {CITY} .
standings after {weekday} 's games : {CLUB} {num} points , {CLUB} {num} , {CLUB} {num} .
1. {PERSON} ( {COUNTRY} ) [9.87|9.91] 2. {PERSON} ( {COUNTRY} ) [9.93|9.98] 3. {PERSON}
    ( {COUNTRY} ) [10.02|10.04]
{CLUB} 2 {CLUB} 1 ( halftime [0-0|1-0|1-1] ) .
{CLUB} lost {PERSON} to a [knee|shoulder|back] injury before the trip to {CLUB} .
the {sport} {PERSON} trains in {CITY} [but was born in|and lives near] {PLACE} .
midway through the season , {CLUB} lead {CLUB} by {small} points .
the referee sent off {LAST} for a foul on {LAST} [near the end|just before the break] .
former {CLUB} {player} {PERSON} will coach {CLUB} next season .
{PERSON} ( {COUNTRY} ) beat {PERSON} ( {COUNTRY} ) {sets}
tickets for {CLUB} against {CLUB} sold out in [an hour|one morning] .
{CLUB} are still waiting for a win at {SITE} [this season|] .
{PERSON} has missed {FEST} {small} times because of illness .
{LEAGUE} fined {CLUB} {money} after [crowd trouble|the riot] at {SITE} .
{CLUB} go top of the [league|table] .
what a goal by {LAST} !
{LAST} , who joined {CLUB} from {CLUB} , scored the only goal [with a header|from the spot] .
{CLUB} goalkeeper {LAST} saved two penalties , and the {EVENT} was theirs .
in the other match , {CLUB} and {CLUB} drew {draw} .
{CLUB} play {CLUB} at {SITE} {future} , with kick-off at {time} .
{NAT} riders filled the first {small} places of the {EVENT} , which ended in {CITY} {past} .
{FULL} 's father played for {CLUB} and once coached {COUNTRY} at the {EVENT} .
the {EVENT} and the {EVENT} fall in the same month [this|next] year .
"""

TRAVEL = """
we arrived in {CITY} {past} .
see you in {CITY} !
we [flew|drove|took the train] from {CITY} to {CITY} and stayed {small} nights in {CITY} .
the road to {CITY} follows the {RIVER} for {num} [miles|kilometres] .
{AIRLINE} [cancelled|delayed] [all|its] flights to {CITY} because of [fog|a strike|snow] .
we rented a car in {CITY} and drove through {REGION} to {NATURE} .
the ferry to {PLACE} leaves {CITY} at {time} [every {weekday}|] .
{PERSON} spent {small} years in {COUNTRY} before moving to {CITY} .
the best view of {CITY} is from {SITE} [at sunset|in the morning|] .
from {SITE} it is a short walk to {SITE} .
turn left at {SITE} , then follow the signs for {CITY} .
last summer {FIRST} cycled from {CITY} to {CITY} with {FIRST} .
{CITY} , the capital of {COUNTRY} , is [quiet|crowded|lovely|very hot] in {month} .
the hostel is run by {PERSON} , a {NAT} {trade} who settled in {CITY} {num} years ago .
our guide , {FIRST} , spoke {LANG} and a little {LANG} .
every morning a bus from {CITY} takes hikers to the foot of {NATURE} .
few tourists [visit|travel to] {PLACE} in [winter|{month}] .
visitors from {COUNTRY} need a visa for {COUNTRY} .
{FIRST} and I met {FIRST} at the station in {CITY} .
my {AIRLINE} flight landed in {CITY} {num} minutes late .
is {CITY} far from {CITY} ?
{FIRST} missed the last train to {CITY} [again|and slept on a bench] .
the boat trip down the {RIVER} to {CITY} takes {small} hours .
{REGION} is famous for its [cheese|wine|beaches|castles] , but go to {CITY} for the [museums|food] .
after a week in {CITY} , {FIRST} wanted to see the {RIVER} .
nobody at the hotel in {CITY} spoke {LANG} , so {FIRST} translated .
you can walk from {CITY} to {CITY} in {small} days if the weather holds .
in {CITY} we changed trains , and by evening we were in {CITY} , on the {NAT} border .
{FIRST} is backpacking through {COUNTRY} and {COUNTRY} until {month} .
the museum on {SITE} in {CITY} shows [old maps|drawings|letters] by {PERSON} .
the menu was in {LANG} , {LANG} and {LANG} , but not in {LANG} .
"""

MAIL = """
hi {FIRST} , can you send me the {paperwork} before {weekday} ?
thanks {FIRST} , I will forward the {paperwork} to {PERSON} at {COMPANY} .
dear [Mr.|Mrs.|Ms.|Dr.] {LAST} , thank you for your [order|letter|call] of {date} .
please ask {FIRST} to call {FIRST} about the {paperwork} .
{FIRST} is [on leave|out of the office] until {weekday} , so please write to {FIRST} instead .
got an e-mail from {WOMAN} about her {LANG} exam .
could you tell {FIRST} that the office in {CITY} is closed {future} ?
I am [travelling|flying] to {CITY} {future} , so {FIRST} will chair the meeting .
best regards , {FULL} , {COMPANY} , {CITY}
{WOMAN} says hi and wants her {thing} back .
the {paperwork} with {COMPANY} was signed by their lawyers in {CITY} {past} .
attached is the {paperwork} from {FIRST} ; [Mr.|Ms.] {LAST} has already seen it .
can you book two seats to {CITY} for {FIRST} and me ?
FYI , {COMPANY} has moved its warehouse to {PLACE} .
{FIRST} , have you heard from {FIRST} since the party ?
tell {FIRST} I said thanks !
is {FIRST} in today ?
please call {FIRST} [at {time}|] .
the meeting is now at {time} , and {FIRST} and {FIRST} will join from {CITY} .
I will be in {CITY} with {FIRST} from {date} , then in {CITY} .
we had a complaint from [Mr.|Mrs.|Ms.] {LAST} in {CITY} about the {thing} .
sorry {FIRST} , the {paperwork} you sent was meant for the {business} {COMPANY} .
{FIRST} asked whether {COMPANY} is owned by {COMPANY} or the other way round .
did {FIRST} or {FIRST} take the keys to the van ?
the parcel for {FULL} was sent to {CITY} by mistake .
{MAN} has lost his phone again , so write to {FIRST} .
reminder : {LANG} class with {FIRST} is in room {num} {future} .
please find enclosed the {paperwork} that {COMPANY} sent to {lender} {past} .
what time is it in {CITY} when {FIRST} calls ?
"""

REVIEW = """
I ordered the {PRODUCT} and it arrived [broken|late|without a cable|in perfect shape] .
the {NAT} food at {EATERY} is {good} , but the music was {bad} .
{title} is {PERSON} 's best [film|novel|album] [so far|since {WORK}|in years] .
in {title} , {PERSON} plays a {trade} from {CITY} .
we had tickets for {title} and left at the interval .
{BAND} opened the concert with {title} .
{PERSON} wrote {title} while living in {CITY} .
the new {COMPANY} shop in {CITY} is {bad} .
my {PRODUCT} stopped working after {small} weeks .
I have read {title} three times and cried every time .
skip {EATERY} and go to {EATERY} on {SITE} instead .
our waiter , {FIRST} , recommended the {NAT} wine , and it was {good} .
the {LANG} translation of {title} is {bad} .
{title} , directed by {PERSON} , opens in cinemas {future} .
the critic of the {PAPER} [hated|loved|walked out of] {title} .
{good} hotel near {SITE} , and {FIRST} at the front desk could not have been kinder .
avoid {AIRLINE} : they lost our bags in {CITY} and never called back .
the cast of {title} includes {PERSON} and {PERSON} .
{COMPANY} customer service never answered my {small} e-mails about the {thing} .
compared with the {PRODUCT} , the {PRODUCT} is [lighter|louder|half the price] .
the soundtrack of {title} was recorded in {CITY} with {BAND} .
{EATERY} has the {dish} that {FIRST} promised , and it is {good} .
a {NAT} remake of {title} won the {PRIZE} {past} .
I bought a {COMPANY} {thing} and the handle fell off within a week .
the stage version of {title} has moved from {CITY} to {CITY} .
if you liked the plot of {title} , you will love the songs in {title} .
{BAND} will play at {FEST} {future} , their manager [told|said in an interview with] the {PAPER} .
service at {EATERY} in {CITY} was {bad} , so {FIRST} left no tip .
my favourite song on the record is {title} , the one that {PERSON} sings in {LANG} .
the {PRODUCT} is {good} for the price .
can the {PRODUCT} read files from a {PRODUCT} ?
"""

WEATHER = """
heavy [rain|snow] is expected across {REGION} and {REGION} {future} .
{CITY} : {sky} , high of {num} .
a storm off the coast of {PLACE} [left {small} fishermen missing|forced ferries to stay in port] .
in {CITY} the temperature fell to {small} degrees [below zero|] {past} .
floods along the {RIVER} closed the road near {CITY} .
forecasters [warned|said] {STORM} could reach {REGION} {future} .
snow blocked the pass between {CITY} and {CITY} for {small} days .
it has not rained in {PLACE} since {month} .
{STORM} killed {num} people in {COUNTRY} before it turned towards {REGION} .
drought has emptied the {RIVER} , and farmers in {REGION} are selling their cattle .
tomorrow will be [sunny|cloudy|wet] in {CITY} and [windy|mild|dry] in {CITY} .
the {BODY} [sent tents|promised money|flew doctors] to {REGION} after {STORM} .
strong winds closed the airport in {CITY} {past} , stranding {big} passengers .
fog on {NATURE} made the rescue of {num} {NAT} climbers impossible .
"""

BUSINESS = """
[{lead}|] {COMPANY} {said} it would [close|open|build] a [plant|factory] in {PLACE} .
shares in {COMPANY} [rose|fell] {decimal} percent after the {business} cut its forecast .
{COMPANY} [agreed to buy|is in talks with|has acquired] {COMPANY} for {money} .
{PERSON} , {office} of {COMPANY} , [resigned|stepped down|sold his shares] {past} .
{lender} [cut|raised] its key rate to {decimal} percent {past} .
analysts at {lender} expect [inflation|growth] of {decimal} percent in {COUNTRY} .
{COMPANY} will supply {COMPANY} with [batteries|engines|chips|tyres] until {year} .
the {NAT} {business} {COMPANY} posted a loss of {money} .
{COMPANY} shares [fell|rose|jumped] .
{AIRLINE} has ordered {num} {PRODUCT} [jets|engines] worth {money} .
exports of {goods} from {COUNTRY} to {COUNTRY} fell {decimal} percent in {month} .
{COMPANY} , based in {CITY} , employs {big} people .
workers at the {COMPANY} plant in {CITY} walked out {past} .
a court in {CITY} fined {COMPANY} {money} for [price fixing|polluting the {RIVER}] .
{COMPANY} {past} unveiled the {PRODUCT} , which will cost [less than|about] $ 400 .
{PERSON} left {COMPANY} to join {COMPANY} as {office} .
{COMPANY} has sued {COMPANY} over [a patent|the failed merger|its new logo] .
{NAT} {goods} prices rose sharply {past} , traders in {CITY} said .
{COMPANY} sells {goods} in {COUNTRY} , {COUNTRY} and {COUNTRY} .
weak sales in {PLACE} hurt {COMPANY} , said {PERSON} , an analyst at {lender} .
{PERSON} founded {COMPANY} in {CITY} in {year} with a loan from {lender} .
{COMPANY} shares were suspended in {CITY} pending news of a bid by {COMPANY} .
the merger of {COMPANY} and {COMPANY} needs the approval of the {BODY} .
{AIRLINE} will fly twice a day between {CITY} and {CITY} from {month} .
{office} {PERSON} told the {PAPER} that {COMPANY} had no plans to leave {CITY} .
last year {COMPANY} hired {big} engineers , most of them from {college} .
{LAST} sold {COMPANY} to a {NAT} investor and retired to {PLACE} .
the dollar was little changed against the {NAT} currency in {CITY} trading {past} .
the {PRODUCT} outsold the {PRODUCT} in {COUNTRY} {past} .
"""

POLITICS = """
President {LAST} [will meet|met] {NAT} {minister} {LAST} in {CITY} .
{COUNTRY} and {COUNTRY} signed [a trade pact|a treaty|an extradition deal] in {CITY} {past} .
the {PARTY} won {num} seats , {small} more than the {PARTY} .
{PERSON} of the {PARTY} called the [report|budget|deal] [a disgrace|a first step|too little] .
{NAT} police arrested {num} people in {CITY} {past} .
[{lead}|] {authority} called on {COUNTRY} to [free|release] {PERSON} .
{NAT} {minister} {PERSON} arrived in {CITY} {past} for talks with {authority} .
voters in {REGION} go to the polls {future} .
the {PAPER} reported {past} that {PERSON} had secretly visited {COUNTRY} .
Senator {LAST} of {REGION} voted against the bill , as did Senator {LAST} .
police in {CITY} are looking for {PERSON} , {num} , last seen at {SITE} .
thousands marched through {CITY} to {SITE} to protest against the {PARTY} .
{PERSON} was born in {CITY} , {COUNTRY} , in {year} .
{PERSON} , a professor at {college} , [wrote|edited|rejected] the report .
the injured were taken to {HOSPITAL} , a doctor said .
{GROUP} leaders in {PLACE} [condemned|welcomed|ignored] the ruling .
a fire at {SITE} in {CITY} [killed {small} people|destroyed {small} shops] {past} .
{PERSON} , who won the {PRIZE} in {year} , has died at {HOSPITAL} at the age of 82 .
{AGENCY} spokesman {PERSON} declined to comment .
Mayor {LAST} of {CITY} [opened|promised to repair] {SITE} {past} .
" we will not leave {PLACE} , " {LAST} told the {PAPER} .
aid workers from {AGENCY} and {AGENCY} reached {PLACE} {past} .
researchers at {college} and {college} [tested|studied] the water of the {RIVER} .
the court in {CITY} sentenced {PERSON} , a former {NAT} {minister} , to {num} years in prison .
an earthquake shook {PLACE} {past} , but there were no reports of damage in {CITY} .
{NAT} and {NAT} troops exchanged fire on the border near {CITY} .
{LAST} , leader of the {PARTY} , comes from a {GROUP} family in {PLACE} .
the {BODY} has sent {num} observers to {COUNTRY} .
{PERSON} was married to the {trade} {PERSON} and taught {LANG} at {college} .
{NAT} negotiators left {CITY} without a deal , and {COUNTRY} recalled its ambassador .
the governor of {REGION} , {PERSON} , pardoned {num} prisoners {past} .
nurses at {HOSPITAL} will strike {future} , the {PAPER} said .
the {PRIZE} went to {PERSON} , a {NAT} {trade} , for [her|his] work in {PLACE} .
{PARTY} leader {PERSON} accused {authority} of favouring {COUNTRY} .
after the talks in {CITY} , {LAST} said the {NAT} side had offered nothing new , and {LAST} flew
    home to {COUNTRY} the same evening .
{GROUP} and {GROUP} families in {CITY} have lived side by side for {num} years .
the {NAT} parliament passed the law by {num} votes to {small} .
a {NAT} passport , a {NAT} flag and {money} in cash were found in the car .
"""

TALK = """
my {kin} {FIRST} makes the best {dish} in {CITY} .
{FIRST} and {FIRST} are getting married in {CITY} {future} .
is {WOMAN} coming to the party , or is she still in {CITY} ?
{FIRST} 's daughter is called {WOMAN} , after her grandmother .
I learned {LANG} at school and {LANG} from my {kin} {FIRST} .
add a cup of rice , as {FIRST} does , and let the {dish} cool .
this {NAT} {dish} needs more [salt|garlic|pepper|time] .
my {kin} used to [hum|whistle|sing] {title} while she cooked .
{WOMAN} broke her [arm|wrist|glasses] in {CITY} {past} .
my {kin} works at the {COMPANY} factory in {CITY} .
happy birthday , {FIRST} !
when {WOMAN} was little , she wanted to live in {PLACE} .
have you seen {title} ? {FIRST} laughed all the way through .
we watched {CLUB} lose with {WOMAN} and her {kin} .
{WOMAN} supports {CLUB} , but her {kin} has always been a {CLUB} fan .
{MAN} studied at {college} and now drives a taxi in {CITY} .
the recipe is from the {PAPER} , but {FIRST} added [chilli|butter|honey] .
{MAN} is from {CITY} , though his parents are {NAT} .
did you watch the {EVENT} at {FIRST} 's place ?
{FIRST} swears the {NAT} {dish} at {EATERY} is {good} .
we named the puppy after the {trade} next door , {PERSON} .
{FIRST} has bought a {PRODUCT} and talks of nothing else .
the {kin} of my {kin} once danced with {PERSON} at {FEST} .
why does {FIRST} always drink {NAT} [tea|beer|coffee] ?
good luck with your {LANG} test , {FIRST} !
I miss {CITY} , but {FIRST} never wants to go back .
" ask {WOMAN} , " said {FIRST} , " she grew up in {CITY} . "
the {dish} from {CITY} is nothing like the {NAT} one .
who invited {FIRST} ?
my {kin} speaks {LANG} and {LANG} .
do not tell {FIRST} , but we got tickets for {FEST} .
is that {LANG} or {LANG} ?
I prefer {NAT} [films|novels|songs] .
"""

THEMES = {
    "sport": SPORT,
    "travel": TRAVEL,
    "mail": MAIL,
    "review": REVIEW,
    "weather": WEATHER,
    "business": BUSINESS,
    "politics": POLITICS,
    "talk": TALK,
}
INFORMAL = frozenset({"travel", "mail", "review", "talk"})
"""Themes in which some sentences are written in lower case throughout."""
JOINED = frozenset({"sport", "weather", "business", "politics"})
"""Themes in which two statements may make one long sentence."""
