"""The words of the grammar that makes synthetic translations, with the forms in which they occur."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A German noun with its translation."""

    de: str
    gender: str  # m, f or n
    plural: str
    en: str
    plural_en: str
    is_human: bool
    is_weak: bool  # ends like its plural in all cases but the nominative: der Junge, den Jungen

    def german(self, case: str, is_plural: bool) -> str:
        """Its form in a case."""
        if is_plural:
            return self.plural + ("n" if case == "dat" and self.plural[-1] not in "ns" else "")
        return self.plural if self.is_weak and case != "nom" else self.de


@dataclass(frozen=True)
class Verb:
    """A German verb with its translation; the forms are those without prefix and tail."""

    prefix: str  # is split off in main clauses: "an" of anrufen
    infinitive: str
    third: str  # er, sie, es
    participle: str
    base: str  # English
    past: str
    tail: str  # "at" of "look at"
    is_moving: bool  # its perfect takes "sein"


@dataclass(frozen=True)
class Adjective:
    """A German adjective with its translation."""

    alone: str  # without an ending
    stem: str
    en: str


@dataclass(frozen=True)
class Modal:
    """A verb that takes an infinitive: "can see" if it is a helper, "want to see" if not."""

    de: tuple[str, str, str]  # ich; er, sie, es; wir, sie
    en: str
    is_helper: bool


@dataclass(frozen=True)
class Determiner:
    """What stands before adjective and noun."""

    stem: str
    kind: str  # the row of its endings; "": it has none
    en: str


def third(base: str) -> str:
    """An English verb with he, she, it; also the plural of a noun."""
    if base == "have":
        return "has"
    if base.endswith(("s", "sh", "ch", "x", "o")):
        return base + "es"
    return base[:-1] + "ies" if base[-1] == "y" and base[-2] not in "aeiou" else base + "s"


def _nouns(table: str, is_human: bool = False) -> tuple[Noun, ...]:
    """ "German gender plural English (plural)", separated by commas; gender w: masculine and weak."""
    rows = [entry.split() for entry in table.split(",")]
    return tuple(
        Noun(r[0], "m" if r[1] == "w" else r[1], r[2], r[3], [*r, third(r[3])][4], is_human, r[1] == "w") for r in rows
    )


def _verbs(table: str) -> tuple[Verb, ...]:
    """ "(prefix-)infinitive third participle English past", separated by commas; * before: with "sein"."""
    found = []
    for entry in table.split(","):
        german, third_, participle, english, past = entry.split()
        prefix, _, infinitive = german.lstrip("*").rpartition("-")
        base, _, tail = english.partition("_")
        found.append(Verb(prefix, infinitive, third_, participle, base, past, tail, german[0] == "*"))
    return tuple(found)


def _adjectives(table: str) -> tuple[Adjective, ...]:
    """ "German English" or "German/stem English", separated by commas."""
    rows = [entry.split() for entry in table.split(",")]
    return tuple(Adjective(de.split("/")[0], de.split("/")[-1], en) for de, en in rows)


PEOPLE = _nouns(
    """Mann m Männer man men, Frau f Frauen woman women, Kind n Kinder child children, Lehrer m Lehrer teacher,
    Ärztin f Ärztinnen doctor, Nachbar w Nachbarn neighbour, Bäcker m Bäcker baker, Schwester f Schwestern sister,
    Bruder m Brüder brother, Freund m Freunde friend, Mutter f Mütter mother, Vater m Väter father,
    Mädchen n Mädchen girl, Junge w Jungen boy, Student w Studenten student, Königin f Königinnen queen,
    König m Könige king, Gast m Gäste guest, Bauer w Bauern farmer, Sängerin f Sängerinnen singer,
    Richter m Richter judge, Tante f Tanten aunt, Onkel m Onkel uncle, Dieb m Diebe thief thieves,
    Polizist w Polizisten policeman policemen, Künstler m Künstler artist, Kollege w Kollegen colleague,
    Großmutter f Großmütter grandmother, Ingenieurin f Ingenieurinnen engineer, Dichter m Dichter poet""",
    is_human=True,
)
ANIMALS = _nouns(
    """Hund m Hunde dog, Katze f Katzen cat, Pferd n Pferde horse, Vogel m Vögel bird, Maus f Mäuse mouse mice,
    Kuh f Kühe cow, Schaf n Schafe sheep sheep, Fuchs m Füchse fox, Ente f Enten duck, Bär w Bären bear,
    Elefant w Elefanten elephant, Huhn n Hühner chicken, Affe w Affen monkey, Schwein n Schweine pig"""
)
THINGS = _nouns(
    """Buch n Bücher book, Brief m Briefe letter, Apfel m Äpfel apple, Bild n Bilder picture, Auto n Autos car,
    Zeitung f Zeitungen newspaper, Fahrrad n Fahrräder bicycle, Kuchen m Kuchen cake, Blume f Blumen flower,
    Tasche f Taschen bag, Stuhl m Stühle chair, Lampe f Lampen lamp, Messer n Messer knife knives,
    Schlüssel m Schlüssel key, Ring m Ringe ring, Karte f Karten map, Teller m Teller plate, Hut m Hüte hat,
    Mantel m Mäntel coat, Uhr f Uhren clock, Glas n Gläser glass, Spiegel m Spiegel mirror, Koffer m Koffer suitcase,
    Geschenk n Geschenke present, Brot n Brote loaf loaves, Ball m Bälle ball, Kamera f Kameras camera,
    Gitarre f Gitarren guitar, Ei n Eier egg, Regenschirm m Regenschirme umbrella, Schachtel f Schachteln box"""
)
ROOMS = _nouns(
    """Garten m Gärten garden, Haus n Häuser house, Schule f Schulen school, Küche f Küchen kitchen,
    Stadt f Städte city, Wald m Wälder forest, Park m Parks park, Zimmer n Zimmer room, Bahnhof m Bahnhöfe station,
    Kirche f Kirchen church, Laden m Läden shop, Dorf n Dörfer village, Museum n Museen museum,
    Bibliothek f Bibliotheken library, Büro n Büros office, Krankenhaus n Krankenhäuser hospital"""
)
PLACES = _nouns(
    """Tisch m Tische table, Brücke f Brücken bridge, Baum m Bäume tree, Tür f Türen door, Fenster n Fenster window,
    Bett n Betten bed, Zaun m Zäune fence, Mauer f Mauern wall, Schrank m Schränke cupboard, Tor n Tore gate"""
)
PERSONS = ("Anna", "Peter", "Maria", "Thomas", "Julia", "Paul", "Sophie", "Lukas", "Emma", "Jonas", "Clara", "Felix")

ADJECTIVES = _adjectives(
    """alt old, neu new, klein small, groß big, jung young, schön beautiful, schnell fast, langsam slow, rot red,
    blau blue, grün green, schwarz black, weiß white, müde/müd tired, freundlich friendly, traurig sad, reich rich,
    glücklich happy, arm poor, stark strong, schwach weak, klug clever, ruhig quiet, laut loud, warm warm, kalt cold,
    schwer heavy, leicht light, teuer/teur expensive, billig cheap, dunkel/dunkl dark, hell bright, seltsam strange,
    berühmt famous, kaputt broken, sauber clean, schmutzig dirty, fremd foreign, gelb yellow, lang long,
    einfach easy, hässlich ugly, leer empty, offen open, wichtig important, ehrlich honest"""
)

ALONE = _verbs(
    """schlafen schläft geschlafen sleep slept, arbeiten arbeitet gearbeitet work worked,
    tanzen tanzt getanzt dance danced, lachen lacht gelacht laugh laughed, weinen weint geweint cry cried,
    warten wartet gewartet wait waited, spielen spielt gespielt play played, singen singt gesungen sing sang,
    *kommen kommt gekommen come came, *gehen geht gegangen go went, *laufen läuft gelaufen run ran,
    *schwimmen schwimmt geschwommen swim swam, *bleiben bleibt geblieben stay stayed,
    *auf-wachen wacht gewacht wake_up woke, *ein-schlafen schläft geschlafen fall_asleep fell,
    *an-kommen kommt gekommen arrive arrived, *weg-laufen läuft gelaufen run_away ran,
    *zurück-kehren kehrt gekehrt return returned, auf-passen passt gepasst pay_attention paid"""
)
WITH_PEOPLE = _verbs(
    """sehen sieht gesehen see saw, lieben liebt geliebt love loved, suchen sucht gesucht look_for looked,
    finden findet gefunden find found, brauchen braucht gebraucht need needed, hören hört gehört hear heard,
    kennen kennt gekannt know knew, treffen trifft getroffen meet met, fragen fragt gefragt ask asked,
    verstehen versteht verstanden understand understood, beobachten beobachtet beobachtet watch watched,
    begrüßen begrüßt begrüßt greet greeted, stören stört gestört disturb disturbed, loben lobt gelobt praise praised,
    warnen warnt gewarnt warn warned, fürchten fürchtet gefürchtet fear feared, vermissen vermisst vermisst miss missed,
    besuchen besucht besucht visit visited, an-rufen ruft gerufen call called, ein-laden lädt geladen invite invited,
    ab-holen holt geholt collect collected, an-sehen sieht gesehen look_at looked"""
)
WITH_THINGS = _verbs(
    """sehen sieht gesehen see saw, kaufen kauft gekauft buy bought, verkaufen verkauft verkauft sell sold,
    vergessen vergisst vergessen forget forgot, malen malt gemalt paint painted, bringen bringt gebracht bring brought,
    tragen trägt getragen carry carried, nehmen nimmt genommen take took, waschen wäscht gewaschen wash washed,
    holen holt geholt fetch fetched, zeichnen zeichnet gezeichnet draw drew, verlieren verliert verloren lose lost,
    reparieren repariert repariert repair repaired, stehlen stiehlt gestohlen steal stole,
    suchen sucht gesucht look_for looked, finden findet gefunden find found, brauchen braucht gebraucht need needed,
    mit-nehmen nimmt genommen take_along took, weg-werfen wirft geworfen throw_away threw,
    an-sehen sieht gesehen look_at looked, auf-heben hebt gehoben pick_up picked,
    aus-packen packt gepackt unpack unpacked"""
)
GIVING = _verbs(
    """geben gibt gegeben give gave, zeigen zeigt gezeigt show showed, schicken schickt geschickt send sent,
    leihen leiht geliehen lend lent, bringen bringt gebracht bring brought,
    versprechen verspricht versprochen promise promised, verkaufen verkauft verkauft sell sold"""
)
SPEECH = _verbs(
    """sagen sagt gesagt say said, glauben glaubt geglaubt believe believed, hoffen hofft gehofft hope hoped,
    denken denkt gedacht think thought, hören hört gehört hear heard, träumen träumt geträumt dream dreamed,
    vergessen vergisst vergessen forget forgot, merken merkt gemerkt notice noticed"""
)
MODALS = (
    Modal(("kann", "kann", "können"), "can", True),
    Modal(("soll", "soll", "sollen"), "should", True),
    Modal(("darf", "darf", "dürfen"), "may", True),
    Modal(("werde", "wird", "werden"), "will", True),
    Modal(("will", "will", "wollen"), "want", False),
    Modal(("muss", "muss", "müssen"), "have", False),
)
PERFECT = {False: ("habe", "hat", "haben"), True: ("bin", "ist", "sind")}
BE = {
    "now": (("bin", "am"), ("ist", "is"), ("sind", "are")),
    "past": (("war", "was"), ("war", "was"), ("waren", "were")),
}

SUBJECTS = (("ich", "I", 0), ("er", "he", 1), ("sie", "she", 1), ("es", "it", 1), ("wir", "we", 2), ("sie", "they", 2))
OBJECTS = {
    "acc": (("mich", "me"), ("ihn", "him"), ("sie", "her"), ("uns", "us")),
    "dat": (("mir", "me"), ("ihm", "him"), ("ihr", "her"), ("uns", "us"), ("ihnen", "them")),
}
THEMSELVES = {"ich": ("mich", "mir"), "wir": ("uns",)}  # not "I see me"
ENDINGS = {  # of articles, by their kind and case: masculine, feminine, neuter, plural
    "d": {"nom": ("er", "ie", "as", "ie"), "acc": ("en", "ie", "as", "ie"), "dat": ("em", "er", "em", "en")},
    "dies": {"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")},
    "ein": {"nom": ("", "e", "", "e"), "acc": ("en", "e", "", "e"), "dat": ("em", "er", "em", "en")},
    "": dict.fromkeys(("nom", "acc", "dat"), ("", "", "", "")),
}
WEAK = {"nom": ("e", "e", "e", "en"), "acc": ("en", "e", "e", "en"), "dat": ("en", "en", "en", "en")}
ADJECTIVE_ENDINGS = {  # after an article of that kind
    "d": WEAK,
    "dies": WEAK,
    "ein": {"nom": ("er", "e", "es", "en"), "acc": ("en", "e", "es", "en"), "dat": ("en", "en", "en", "en")},
    "": {"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")},
}
_THE = Determiner("d", "d", "the")
_MY = tuple(Determiner(de, "ein", en) for de, en in (("mein", "my"), ("sein", "his"), ("ihr", "her"), ("unser", "our")))
_SINGULAR = (Determiner("dies", "dies", "this"), *_MY)
_PLURAL = (Determiner("dies", "dies", "these"), *_MY)
_COUNTS = tuple(Determiner(de, "", en) for de, en in (("", ""), ("zwei", "two"), ("drei", "three"), ("fünf", "five")))
_ANY = (
    (*(_THE,) * 5, *(Determiner("ein", "ein", "a"),) * 4, *_SINGULAR, Determiner("jed", "dies", "every")),
    (*(_THE,) * 4, *_COUNTS, *_PLURAL),
)
_NO = Determiner("kein", "ein", "no")
DETERMINERS = {  # singular, plural; a word that stands there twice is drawn more often
    "any": _ANY,
    "object": ((*_ANY[0], _NO), (*_ANY[1], _NO)),
    "definite": ((_THE,) * 6 + _SINGULAR, (_THE,) * 6 + _PLURAL),
    "relative": ((_THE, Determiner("ein", "ein", "a")), (_THE,)),
}

TIMES = {
    "now": (
        ("heute", "today"),
        ("jetzt", "now"),
        ("manchmal", "sometimes"),
        ("jeden Tag", "every day"),
        ("im Sommer", "in summer"),
    ),
    "past": (
        ("gestern", "yesterday"),
        ("heute", "today"),
        ("letzte Woche", "last week"),
        ("vor einem Jahr", "a year ago"),
        ("am Sonntag", "on Sunday"),
    ),
    "modal": (
        ("morgen", "tomorrow"),
        ("bald", "soon"),
        ("nächste Woche", "next week"),
        ("nach dem Essen", "after dinner"),
        ("am Sonntag", "on Sunday"),
    ),
}
PREPOSITIONS = (
    ("in", "in", ROOMS),
    ("vor", "in front of", ROOMS),
    ("hinter", "behind", PLACES),
    ("neben", "next to", PLACES),
    ("unter", "under", PLACES),
    ("mit", "with", PEOPLE),
    ("bei", "near", PLACES),
)
CONTRACTED = {"in": "im", "bei": "beim"}  # with "dem"
LINKS = (
    ("weil", "because"),
    ("obwohl", "although"),
    ("wenn", "when"),
    ("während", "while"),
    ("bevor", "before"),
    ("sobald", "as soon as"),
    ("falls", "if"),
)
QUESTIONS = (("", ""), ("", ""), ("warum", "why"), ("wann", "when"), ("wie oft", "how often"))
AND = (("und", "and"), (", aber", "but"), ("oder", "or"))
