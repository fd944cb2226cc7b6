"""The names of the built-in world: pools of name parts, ambiguous names, patterns of entities.

Everything here is common knowledge or invented, and written for this project. In all lists names
are separated by white space and `_` stands for a space inside a name.
"""

from __future__ import annotations

_WOMEN = """Mary Anna Laura Julia Emily Sarah Hannah Rachel Susan Linda Karen Nancy Betty Helen
    Ruth Sharon Michelle Kimberly Deborah Jessica Amanda Melissa Stephanie Nicole Angela Teresa
    Martha Diana Irene Judith Olga Natasha Ingrid Astrid Fatima Aisha Leila Yasmin Priya Anjali
    Meera Mei Yuki Keiko Akiko Naomi Sakura Lucia Isabel Pilar Elena Marta Giulia Chiara
    Francesca Simone Camille Elise Amelie Beatriz Fernanda Ngozi Amina Zainab Wanjiru Hope Rose
    Grace May June April Ivy Daisy Ruby Olive Jane Joan Agnes Edith Ellen Monica Sandra Patricia
    Brenda Cynthia Denise Heather Megan Erin Bridget Siobhan Zoe Chloe Nina Tamara Katarina
    Milena Jana Petra Ursula Greta Freya Sonja Annika Paula Renata"""

_MEN = """John Peter Paul James Robert Michael William David Richard Joseph Thomas Daniel Matthew
    Anthony Mark Steven Andrew Kenneth George Kevin Brian Edward Ronald Timothy Jason Jeffrey
    Ryan Jacob Gary Nicholas Eric Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel
    Gregory Patrick Frank Alexander Raymond Jack Dennis Jerry Aaron Jose Adam Nathan Henry
    Zachary Walter Kyle Harold Carl Ahmed Mohammed Omar Hassan Yusuf Ibrahim Rajesh Arjun Vikram
    Sanjay Wei Jun Hiroshi Kenji Takeshi Min-jun Carlos Miguel Javier Pablo Luis Marco Luca
    Giovanni Matteo Pierre Jean-Luc Antoine Hans Klaus Jurgen Lars Sven Erik Bjorn Ivan Dmitri
    Sergei Pavel Andrzej Tomasz Kwame Chidi Tunde Will Bob Bill Drew Rob Sandy Ray Gene Art Dean
    Earl Cliff Dale Glenn Neil Ian Hugh Rory Declan Liam Owen Rhys Gareth"""

_SURNAMES = """Smith Johnson Brown Jones Miller Davis Garcia Rodriguez Martinez Hernandez Lopez
    Gonzalez Wilson Anderson Taylor Moore Martin Lee Perez Thompson White Harris Sanchez Clark
    Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green
    Adams Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz
    Parker Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook Rogers Gutierrez Ortiz
    Cooper Peterson Bailey Reed Kelly Ramos Kim Cox Ward Richardson Watson Brooks Chavez Wood
    Bennett Gray Mendoza Hughes Price Alvarez Castillo Sanders Patel Myers Long Ross Foster
    Whitaker Fitzgerald O'Neill O'Brien McCarthy MacDonald Sullivan Gallagher Kowalski Nowak
    Novak Dvorak Horvat Petrov Ivanova Sokolov Volkov Kuznetsov Popescu Papadopoulos Rossi
    Bianchi Ferraro Romano Esposito Di_Stefano Moretti Dubois Lefebvre Moreau Girard Bernard Schmidt
    Schneider Fischer Weber Wagner Becker Hoffmann Zimmermann Vogel Krause van_der_Meer de_Vries
    Jansen Bakker Andersson Lindqvist Johansson Nilsen Hansen Olsen Virtanen Korhonen Tanaka
    Suzuki Yamamoto Watanabe Nakamura Kobayashi Park Choi Jung Wang Zhang Chen Liu Huang Zhao
    Singh Sharma Gupta Mehta Rao Iyer Khan Hussain Malik Rahman Haddad Mansour Nasser Okafor
    Adeyemi Mensah Diallo Traore Mbeki Kamau Silva Santos Oliveira Pereira Costa Ferreira Almeida
    Vargas Rojas Herrera Aguilar Delgado Mohr Finch Holloway Pemberton Ellsworth Thackeray
    Abernathy Castellanos Ndiaye Yilmaz Demir Cohen Levy Friedman Goldstein Katz Pike Sharp Stone
    Frost Snow Banks Rivers Fields Marsh Bishop Fox Wolfe Swift Bird"""

_TOWNS = """Tokyo Osaka Kyoto Beijing Shanghai Hong_Kong Seoul Bangkok Hanoi Jakarta Manila Delhi
    Mumbai Kolkata Chennai Karachi Lahore Dhaka Kabul Tehran Baghdad Damascus Beirut Jerusalem
    Tel_Aviv Istanbul Ankara Athens Bucharest Budapest Prague Warsaw Krakow Moscow Kiev Minsk
    Riga Vilnius Tallinn Helsinki Stockholm Oslo Copenhagen Hamburg Frankfurt Cologne Stuttgart
    Leipzig Amsterdam Rotterdam Utrecht Brussels Antwerp Ghent Lyon Marseille Toulouse Bordeaux
    Lille Strasbourg Nantes Madrid Bilbao Granada Malaga Lisbon Rome Naples Bologna Palermo Genoa
    Venice Basel Bern Lausanne Salzburg Graz Dublin Galway Edinburgh Glasgow Aberdeen Cardiff
    Swansea Manchester Birmingham Leeds Bristol Norwich Plymouth Brighton Southampton Nairobi
    Lagos Accra Dakar Kampala Lusaka Harare Johannesburg Durban Cape_Town Tunis Algiers Tripoli
    Khartoum Addis_Ababa Buenos_Aires Montevideo Bogota Lima Quito Caracas Sao_Paulo
    Rio_de_Janeiro Brasilia Guadalajara Monterrey Toronto Montreal Ottawa Calgary Winnipeg
    Halifax Seattle Portland Sacramento Los_Angeles San_Francisco San_Diego Las_Vegas Tucson
    Albuquerque El_Paso New_Orleans Atlanta Miami Tampa Baltimore Pittsburgh Buffalo Rochester
    Milwaukee Minneapolis Omaha Kansas_City St._Louis Cincinnati Louisville New_Haven Providence
    Perth Brisbane Canberra Hobart Auckland Christchurch Dunedin Reykjavik Sarajevo Zagreb
    Ljubljana Skopje Tirana Tbilisi Baku Yerevan"""

_COUNTRIES = """Germany Italy Portugal Austria Switzerland Belgium Denmark Norway Sweden Finland
    Iceland Scotland Greece Turkey Bulgaria Romania Hungary Slovakia Slovenia Croatia Serbia
    Albania Ukraine Belarus Lithuania Latvia Estonia Russia Armenia Azerbaijan Kazakhstan
    Uzbekistan Iran Iraq Syria Lebanon Egypt Libya Tunisia Algeria Morocco Sudan Ethiopia Somalia
    Uganda Tanzania Rwanda Zambia Zimbabwe Botswana Namibia Mozambique Angola Nigeria Ghana
    Senegal Liberia Cameroon China Japan Mongolia Nepal Pakistan Bangladesh Thailand Vietnam
    Cambodia Laos Malaysia Indonesia Singapore Australia Fiji Canada Mexico Guatemala Honduras
    Nicaragua Panama Costa_Rica Jamaica Haiti Brazil Argentina Chile Bolivia Peru Ecuador
    Colombia Venezuela Uruguay Paraguay New_Zealand South_Africa South_Korea Saudi_Arabia"""

_REGIONS = """California Texas Florida Ohio Oregon Nevada Utah Arizona Idaho Wyoming Nebraska
    Iowa Minnesota Wisconsin Illinois Michigan Kentucky Tennessee Alabama Mississippi Louisiana
    Arkansas Maryland Vermont Maine New_Hampshire Massachusetts Connecticut Rhode_Island Alaska
    Hawaii Ontario Quebec Manitoba Saskatchewan Nova_Scotia Bavaria Saxony Hesse Tuscany Sicily
    Sardinia Lombardy Piedmont Umbria Catalonia Andalusia Galicia Brittany Normandy Provence
    Burgundy Cornwall Yorkshire Sussex Norfolk Cumbria Wessex Punjab Kerala Gujarat Kashmir
    Bengal Sichuan Yunnan Tibet Hokkaido Okinawa Siberia Crimea Lapland Jutland Transylvania
    Silesia Moravia Queensland Tasmania Darfur Katanga Zanzibar Scandinavia Africa Antarctica
    Latin_America Southeast_Asia Central_Asia East_Anglia Upper_Austria"""

_NATIONALITIES = """German Italian Portuguese Austrian Swiss Belgian Danish Norwegian Swedish
    Finnish Icelandic Scottish Welsh Irish Greek Turkish Bulgarian Romanian Hungarian Slovak
    Slovenian Croatian Serbian Albanian Ukrainian Belarusian Lithuanian Latvian Estonian Russian
    Armenian Kazakh Iranian Iraqi Syrian Lebanese Egyptian Libyan Tunisian Algerian Moroccan
    Sudanese Ethiopian Somali Ugandan Tanzanian Rwandan Zambian Zimbabwean Nigerian Ghanaian
    Senegalese Chinese Japanese Mongolian Nepalese Pakistani Bangladeshi Thai Vietnamese
    Cambodian Malaysian Indonesian Australian Canadian Mexican Cuban Jamaican Haitian Brazilian
    Argentine Chilean Bolivian Peruvian Colombian Venezuelan British English French Spanish
    American Indian Korean Israeli Palestinian Saudi European African Asian Dutch Polish Czech"""

_LANGUAGES = """German Italian Portuguese Danish Norwegian Swedish Finnish Icelandic Welsh Gaelic
    Greek Turkish Bulgarian Romanian Hungarian Slovak Croatian Serbian Ukrainian Lithuanian
    Latvian Russian Armenian Arabic Hebrew Persian Urdu Hindi Bengali Tamil Telugu Gujarati
    Mandarin Cantonese Japanese Korean Thai Vietnamese Malay Tagalog Swahili Zulu Xhosa Yoruba
    Hausa Amharic Quechua Basque Catalan Galician Breton Latin Esperanto Yiddish English French
    Spanish Dutch Polish Czech Maltese Maori"""

_COMPANIES = """Microsoft Google Toyota Nestle Samsung Sony Intel Oracle IBM Siemens Unilever
    Pfizer Novartis Honda Hitachi Panasonic Adidas Nike Puma Ikea Volvo Ericsson Airbus Boeing
    Michelin Renault Peugeot Carrefour Danone Tesco Sainsbury Vodafone Walmart Costco Starbucks
    Pepsi Netflix Spotify PayPal Nvidia Qualcomm Motorola Xerox Kodak Bayer Roche Sanofi Hyundai
    Lenovo Alibaba Tencent Infosys Petrobras Gazprom Lukoil Aldi Lidl Zara Gucci Lego Maersk
    Heineken Carlsberg"""

_CLUBS = """Juventus Ajax Benfica Celtic Bayern_Munich Borussia_Dortmund Atletico_Madrid
    Paris_Saint-Germain Real_Betis Sporting_Lisbon Galatasaray Fenerbahce Olympiakos Feyenoord
    Anderlecht Rosenborg Malmo_FF Boca_Juniors River_Plate Flamengo Fluminense Aston_Villa
    West_Ham Tottenham_Hotspur Crystal_Palace Wolverhampton_Wanderers Sheffield_Wednesday
    Leicester_City Real_Sociedad Athletic_Bilbao Red_Star_Belgrade Dynamo_Kiev Spartak_Moscow
    Slavia_Prague Young_Boys Shakhtar_Donetsk Lazio Atalanta Fiorentina"""

_POOLS = {
    "river": """Thames Danube Rhine Seine Loire Rhone Elbe Oder Vistula Volga Don Nile Congo
        Zambezi Ganges Indus Mekong Yangtze Orinoco Parana Missouri Potomac Yukon Tiber Po Ebro
        Tagus Douro Shannon Mersey Tyne Trent Tweed Clyde Severn Murray Euphrates Tigris""",
    "nature": """Kilimanjaro Vesuvius Etna Snowdon Yosemite Yellowstone Niagara_Falls Loch_Ness
        Mont_Blanc Ben_Nevis Table_Mountain Uluru Stromboli Sinai Lake_Como Lake_Garda Lake_Tahoe
        Ararat Krakatoa Galapagos Bali Crete Corfu Sumatra Borneo Majorca Ibiza Skye""",
    "acronym": """NATO UNICEF Interpol OPEC Greenpeace Oxfam Amnesty_International UNESCO Europol
        Human_Rights_Watch Save_the_Children Mercy_Corps Transparency_International ASEAN UNHCR
        Caritas ActionAid World_Vision WaterAid Doctors_Without_Borders Islamic_Relief""",
    "league": """FIFA UEFA NBA NFL NHL ICC IOC Concacaf FIBA""",
    "body": """United_Nations World_Bank European_Commission European_Union African_Union FBI CIA
        Red_Cross International_Monetary_Fund World_Health_Organization Federal_Reserve
        World_Trade_Organization Arab_League Pentagon Kremlin
        International_Olympic_Committee""",
    "field": """Health Education Defence Transport Agriculture Justice Finance Labour Tourism
        Fisheries Culture Energy Housing Science Forestry Trade""",
    "school": """Harvard Yale Stanford MIT Caltech Eton Cornell Dartmouth Sorbonne_University
        UCLA Imperial_College Trinity_College King_'s_College Juilliard Georgetown""",
    "paper": """Guardian Economist Observer Daily_Telegraph Daily_Courier Morning_Star
        Evening_Standard Independent Spectator Financial_Review Sunday_Mirror""",
    "airline": """Lufthansa Ryanair Qantas KLM Finnair EasyJet Aeroflot Alitalia Cathay_Pacific
        JetBlue Aer_Lingus Wizz_Air""",
    "bank": """Barclays HSBC Citigroup Goldman_Sachs UBS BNP_Paribas Deutsche_Bank Commerzbank
        Natwest JPMorgan Credit_Suisse Nomura""",
    "band": """Coldplay Radiohead Metallica Blur Oasis Nirvana Abba Kraftwerk U2 Pink_Floyd
        Fleetwood_Mac Arctic_Monkeys Daft_Punk Green_Day Pearl_Jam""",
    "event": """World_Cup Champions_League Super_Bowl Olympics Six_Nations Ryder_Cup Solheim_Cup
        Copa_America Winter_Games Paralympics Commonwealth_Games Europa_League Tour_de_France
        Stanley_Cup World_Series Grand_National Asian_Games Pan_American_Games Gold_Cup""",
    "festival": """Sundance Lollapalooza Eurovision Oktoberfest Roland_Garros Bonnaroo Berlinale
        Burning_Man Mardi_Gras""",
    "prize": """Nobel_Prize Booker_Prize Pulitzer_Prize Grammy Golden_Globe Turner_Prize Bafta
        Fields_Medal Palme_d'Or Victoria_Cross Ballon_d'Or Purple_Heart""",
    "work": """Titanic Avatar Gladiator Inception Jaws Ulysses Dracula Frankenstein Middlemarch
        Persuasion Dune Thriller Nevermind Imagine Yesterday Psycho Vertigo Alien Goodfellas
        Beowulf Candide Walden War_and_Peace Hey_Jude Purple_Rain Bleak_House Little_Women
        Les_Miserables Don_Giovanni The_Odyssey The_Tempest Swan_Lake Star_Wars Cats Hair Grease
        Kidnapped Emmerdale Panorama""",
    "group": """Muslim Catholic Buddhist Hindu Jewish Protestant Orthodox Sikh Republican Marxist
        Christian Shiite Sunni Anglican Methodist Quaker Kurdish Tamil Basque Roma""",
    "party": """Labour Green Conservative Liberal Democratic Socialist Justice Freedom Reform
        Unity Progress Workers Farmers Centre Civic Pirate Communist Alliance Homeland
        Constitution""",
    "title_adjective": """Silent Last Golden Broken Hidden Crimson Winter Paper Burning Hollow
        Gentle Wild Distant Frozen Velvet Electric Bitter Secret Endless Crooked Midnight Savage
        Amber Quiet""",
    "title_noun": """Orchard Harbour Garden Mirror Staircase Lantern Kingdom Promise Journey
        Letter Summer Forest Violin Horizon Daughter Shadow Clockmaker Ocean Bridge Tower Ashes
        Dream Storm Widow""",
    "title_plural": """Foxes Lanterns Strangers Pilots Wolves Tigers Sparrows Outlaws Prophets
        Engines Giants Ravens Diamonds Comets Rebels Falcons Hornets Bears Eagles Sharks""",
}  # fmt: skip

_VILLAGES = (
    """Ash Elm Oak Thorn Hart Wood West East North Kings Queens Bran Lan Wit Hal Wal Brom Hazel
        Alder Birch Fern Clay Red Black Mill Fair Glen Long Rock Sand Spring Swan Wind Cran Dun
        Farn Had Ken Lang Mel Pem Rad Shel Tam Whit Stan Hol Cald Ever Grim""",
    "ford ton ham bury field worth ley wick stead mouth dale bridge port ville burg haven",
)
_FIRMS = (
    "Nor Vel Zen Cor Dyna Ever Glo Inno Kin Lumi Nova Opti Prima Quan Reno Sola Viro Xeno Astra",
    "tex tra tek corp dyne via ntis ion rica mark soft gen star net plex",
)
_PRODUCTS = (
    "Aero Vista Pulse Turbo Ultra Echo Cyber Magna Omni Spectra Rapid Zephyr",
    "book pad cam jet max phone drive",
)

AMBIGUOUS_ROLES = """
woman town: Paris Sydney Florence Charlotte Adelaide Vienna Alexandria Savannah Helena Verona
woman town: Sofia Siena Aurora Chelsea Brooklyn Madison Olympia Odessa Lourdes Valencia Geneva
woman region: Victoria Virginia Georgia Carolina Dakota Montana Alberta Asia
woman country: Georgia India Kenya
man town: Austin Houston Dallas Lincoln Jackson Milan Santiago Orlando Camden Preston Chester
man town: Denver Phoenix Memphis Boston Trenton Tyler Troy Kingston Cairo Cleveland Salem
man region: Devon Kent Tyrone Indiana
man country: Jordan Chad Israel Cuba
last town: Washington Lincoln Jackson Houston Hamilton Cleveland Wellington Darwin Lancaster
last town: Bradford Hastings Durham Burlington Berlin London Sheffield Warwick Stafford Milton
last town: Preston Wells Columbus Nelson Carlisle Raleigh Burnley Sunderland Everton Dayton
last town: Winchester Lima Arlington
last country: Jordan Holland Ireland England France Spain Wales Poland
last region: Kent York Somerset Jersey
town club: Arsenal Barcelona Liverpool Porto Roma Turin Dortmund Valencia Milan Chelsea Reading
town club: Bath Nice Detroit Chicago Philadelphia Marseilles Seville Oakland Burnley Sunderland
river company: Amazon Avon Hudson
river man: Jordan Hudson
river last: Hudson Delaware Niger
nature company: Everest Olympus Fuji Sahara Matterhorn
region company: Patagonia Columbia Iberia Delta
town company: Nokia Zurich Santander Phoenix Evian Sheffield
last company: Ford Ferrari Disney Hilton Kellogg Dell Morgan Porsche Chase Heinz Chanel Tesla
last company: Philips Marriott Wells Hershey Cadbury Prada Guinness Bentley
woman company: Mercedes Wendy Alexa
woman work: Emma Rebecca Carmen Matilda Alice Annie Carrie Juno Roxanne Jolene Layla Gloria
woman work: Ophelia
man work: Oliver Rocky Alfie Amadeus Fernando Hamlet Othello Elvis Macbeth
last work: Macbeth Lincoln Kane Zhivago Copperfield Ford
town work: Casablanca Chicago Philadelphia Fargo Munich Manhattan Nashville Havana Waterloo
town work: Brooklyn Belfast
region work: Oklahoma
town festival: Wimbledon Cannes Glastonbury Woodstock Ascot Coachella Bayreuth
man prize: Oscar Tony
woman prize: Emmy
town school: Cambridge Oxford Princeton Durham Heidelberg
region band: Kansas Asia Europe Alabama
town band: Boston Chicago Berlin
"""
"""Two roles of the same names, which occur in every split."""

ENTITIES = {
    "FULL": ("PER", "9:{woman} {last}|9:{man} {last}|1:{woman} {woman} {last}"
        "|1:{man} [J.|R.|T.] {last}"),
    "PERSON": ("PER", "6:{woman} {last}|6:{man} {last}|5:{last}|1:{village}"
        "|1:[A.|K.|M.] {last}"),
    "FIRST": ("PER", "{woman}|{man}"),
    "WOMAN": ("PER", "6:{woman}|2:{woman} {last}|1:{woman} {village}"),
    "MAN": ("PER", "6:{man}|2:{man} {last}|1:{man} {village}"),
    "LAST": ("PER", "7:{last}|2:{village}"),
    "CITY": ("LOC", "8:{town}|4:{village}|1:New {village}|1:Port {village}|1:{village} City"
        "|1:Fort {last}"),
    "COUNTRY": ("LOC", "{country}"),
    "REGION": ("LOC", "8:{region}|1:[North|South|Upper|Lower] {village}"
        "|1:{village} [County|Valley]"),
    "PLACE": ("LOC", "4:{town}|3:{country}|2:{region}|2:{village}"),
    "RIVER": ("LOC", "4:{river}|1:{river} River|1:River {river}|1:River {village}"),
    "NATURE": ("LOC", "3:{nature}|1:Lake {village}|1:Lake {last}|1:Mount {last}"
        "|1:{last} Island|1:Cape {last}"),
    "SITE": ("LOC", "2:{last} [Street|Avenue|Square|Park|Bridge]"
        "|1:{village} [Road|Castle|Airport|Hall]"
        "|1:{town} [Road|Airport|Central Station|Street]|1:{woman} [Gardens|Stadium|Street]"),
    "CLUB": ("ORG", "6:{town}|3:{village}|4:{club}"
        "|2:{town} [United|City|Rovers|Athletic|Wanderers]|1:{village} [Town|Rangers|Albion]"
        "|2:{town} {title_plural}"),
    "COMPANY": ("ORG", "8:{company}|3:{firm}|1:{village} [Steel|Textiles|Brewery|Insurance]"
        "|2:{last} [Group|Industries|Holdings|Motors|Foods|Energy]|1:{last} & {last}"
        "|1:{last} and Sons"),
    "AIRLINE": ("ORG", "3:{airline}|1:{nat} [Airlines|Airways]|1:Air {country}"
        "|1:{firm} [Air|Airlines]"),
    "BANK": ("ORG", "3:{bank}|1:{last} Bank|1:{firm} [Bank|Capital]|1:{last} {last}"),
    "CENTRAL": ("ORG", "3:Bank of {country}|2:Bank of {town}"
        "|1:[First|Second] National Bank of {village}"),
    "UNIVERSITY": ("ORG", "3:University of {town}|1:University of {region}"
        "|1:Technical University of {town}"),
    "SCHOOL": ("ORG", "2:{school}|1:{last} [College|University]|1:{town} State University"
        "|1:{village} [High School|College]"),
    "AGENCY": ("ORG", "4:{acronym}|1:{village} Town Council|1:{town} City Council"),
    "BODY": ("ORG", "4:{body}|1:[Ministry|Department] of {field}"
        "|1:National {field} [Agency|Institute]|1:{nat} Red Cross|1:{town} Chamber of Commerce"),
    "LEAGUE": ("ORG", "{league}"),
    "PARTY": ("ORG", "3:{party} Party|1:{nat} {party} Party|1:{party} [Front|League|Union]"),
    "PAPER": ("ORG", "2:{paper}|2:{town} [Times|Herald|Post|Gazette]"
        "|1:{village} [Echo|Chronicle|Argus]"),
    "HOSPITAL": ("ORG", "1:{last} Memorial Hospital|1:{village} General Hospital"
        "|1:St. {man} Hospital"),
    "EATERY": ("ORG", "1:[Cafe|Chez|Casa] {woman}|1:{man} 's [Diner|Grill|Bakery]"
        "|1:{title_adjective} {title_noun}"),
    "BAND": ("ORG", "2:{band}|1:The {title_adjective} {title_plural}"
        "|1:{woman} and the {title_plural}"),
    "NAT": ("MISC", "{nat}"),
    "LANG": ("MISC", "{language}"),
    "GROUP": ("MISC", "{group}"),
    "EVENT": ("MISC", "4:{event}|2:{nat} [Open|Grand Prix|Cup]"
        "|2:{town} [Open|Marathon|Masters]|1:{village} [Cup|Trophy|Show]|1:{last} Cup"),
    "FEST": ("MISC", "{festival}"),
    "PRIZE": ("MISC", "3:{prize}|1:{last} [Prize|Medal|Award]"),
    "WORK": ("MISC", "8:{work}|2:The {title_adjective} {title_noun}"
        "|1:The {title_noun} of {town}|1:{title_noun} and {title_noun}"
        "|1:[Goodbye|Return to|Leaving] {town}"),
    "PRODUCT": ("MISC", "2:{product}|1:{product} [200|300|Pro|Mini]"
        "|1:{company} [500|747|X5|3000]"),
    "STORM": ("MISC", "[Hurricane|Typhoon] {woman}"),
}  # fmt: skip
"""Slot -> (type, weighted patterns over the pools); square brackets hold alternatives."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in dict.fromkeys(text.split()))


def _joined(parts: tuple[str, str], step: int) -> tuple[str, ...]:
    """Every `step`-th combination of a stem and an ending without a doubled letter between them."""
    stems, endings = (part.split() for part in parts)
    combinations = [stem + end for stem in stems for end in endings if stem[-1].lower() != end[0]]
    return tuple(combinations[::step])


def roles() -> dict[str, tuple[str, ...]]:
    """The ambiguous names of each pool, the same for every split."""
    table: dict[str, dict[str, None]] = {}
    for line in AMBIGUOUS_ROLES.strip().splitlines():
        head, _, names = line.partition(":")
        for role in head.split():
            table.setdefault(role, {}).update(dict.fromkeys(_names(names)))
    return {role: tuple(names) for role, names in table.items()}


def ambiguous() -> frozenset[str]:
    """All names that occur in every split, each with at least two entity types."""
    return frozenset(name for names in roles().values() for name in names)


def pools() -> dict[str, tuple[str, ...]]:
    """The unambiguous names of each pool; `generator` divides them among the splits."""
    table = {pool: _names(text) for pool, text in _POOLS.items()}
    table |= {
        "woman": _names(_WOMEN),
        "man": _names(_MEN),
        "last": _names(_SURNAMES),
        "town": _names(_TOWNS),
        "country": _names(_COUNTRIES),
        "region": _names(_REGIONS),
        "nat": _names(_NATIONALITIES),
        "language": _names(_LANGUAGES),
        "company": _names(_COMPANIES),
        "club": _names(_CLUBS),
        "village": _joined(_VILLAGES, 2),
        "firm": _joined(_FIRMS, 2),
        "product": _joined(_PRODUCTS, 1),
    }
    taken = ambiguous()
    return {
        pool: tuple(name for name in names if name not in taken) for pool, names in table.items()
    }
