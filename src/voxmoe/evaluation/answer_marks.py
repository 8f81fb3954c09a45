"""The words of an answer that carry meaning, in order: terms, what they are about, what denies or refuses them.

A text is cut into pieces (sentences, and what "but" or ";" parts), a piece into fragments (what commas, "and" and "or"
part). What no pattern names is passed over. `text_answers.py` reads the marks.
"""

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from voxmoe.vocabulary import ABSENT, NO_REGION, SHAPES, SPREADS, VOLUME_BINS, Task


class Sign(Enum):
    """What a mark says."""

    TERM = auto()
    NOT_APPLICABLE = auto()
    GONE = auto()
    """The label is not there; or, beside terms, they are denied."""
    CUE = auto()
    """What is spoken about."""
    WEAK_CUE = auto()
    """ "characterized as": what the grammar says of spread, and others of anything."""
    DENIES = auto()
    """What follows is denied."""
    DENIED = auto()
    """What stands before is denied."""
    REFUSES = auto()
    UNSURE = auto()
    OTHER = auto()
    """Something else than the label: its percents are not of the brain, and that it is not there says nothing."""
    VERB = auto()


@dataclass(frozen=True)
class Mark:
    """One sign; for a term its task and value (empty if it fits no category), for a cue its task, for a colon ":"."""

    sign: Sign
    task: Task | None = None
    value: str = ""
    sided: bool = False
    """Whether a region has "left" or "right" before it, so that denying it leaves the other side."""
    last: bool = False
    """Whether no word stands after it in its fragment."""


@dataclass(frozen=True)
class Fragment:
    """The marks between two separators."""

    marks: tuple[Mark, ...]
    link: str
    """The separator before it."""
    dependent: bool
    """Whether it hangs on its neighbour: it has no verb, or begins with "or", "whether", "which", .."""


Piece = list[Fragment]

# ---------------------------------------------------------------------------------------------------------- volume

_EDGES = (0.0, 1.0, 5.0, 10.0, 25.0, 50.0, math.inf)
"""Of `VOLUME_BINS`; what lies above the last bin stays in it, as in the protocols."""
_UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", *(f"{stem}teen" for stem in ("thir", "four", "fif", *_UNITS[5:7], "eigh", "nine")))
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = dict(zip((*_UNITS, *_TEENS, *_TENS), (*range(1, 20), *range(20, 100, 10)), strict=True))
_NUMBER = (
    rf"(?:\d+(?:[.,]\d+)?|\b(?:(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_UNITS)}))?|{'|'.join((*_TEENS, *_UNITS))})\b)"
)
_PERCENT = r"\s*(?:%|percent\b|per\s+cent\b)"
_BELOW = (
    r"(?:<=?|≤|(?:less|smaller|lower|fewer)\s+than|under|below|at\s+most|up\s+to|not?\s+more\s+than|nearly|almost|"
    r"(?:half|third|quarter|tenth|fraction)\s+of)\s*"
)
_ABOVE = (
    r"(?:>=?|≥|(?:more|greater|larger|higher)\s+than|over|above|at\s+least|not?\s+less\s+than|exceed(?:s|ing)|"
    r"in\s+excess\s+of|upwards?\s+of)\s*"
)
_OR_LESS, _OR_MORE = r"\s+or\s+(?:less|below|under|lower|smaller)\b", r"\s+or\s+(?:more|above|over|higher|greater)\b"
_OF_BRAIN = r"(?:\s+of\s+(?:the\s+)?(?:(?:whole|entire|total)\s+)?brain\b(?!\W*stem))?"
_VOLUME = (
    rf"(?<![\w.])(?<!\bpoint\s)(?:(?:between\s+)?{_NUMBER}(?:{_PERCENT})?\s*(?:-(?:to-)?|to\b|through\b)\s*"
    rf"{_NUMBER}{_PERCENT}|between\s+{_NUMBER}(?:{_PERCENT})?\s+and\s+{_NUMBER}{_PERCENT}"
    rf"|(?:{_BELOW}|{_ABOVE})?{_NUMBER}{_PERCENT}(?:{_OR_LESS}|{_OR_MORE})?){_OF_BRAIN}"
)


def _bin(low: float, high: float) -> str:
    """The bin that holds a range, edges included; empty if it reaches into several."""
    fits = [name for name, a, b in zip(VOLUME_BINS, _EDGES, _EDGES[1:], strict=False) if a <= low and high <= b]
    return fits[0] if fits else ""


def _value(number: str) -> float:
    if number[0].isdigit():
        return float(number.replace(",", "."))
    return float(sum(_WORDS[word] for word in re.split(r"[\s-]", number)))


def _volume_value(text: str) -> str:
    found = [_value(number) for number in re.findall(_NUMBER, text)]
    if len(found) == 2:
        return _bin(*sorted(found))
    (value,) = found
    if re.match(_BELOW, text) or re.search(_OR_LESS, text):
        return _bin(0.0, value)
    if re.match(_ABOVE, text) or re.search(_OR_MORE, text):
        return _bin(value, math.inf)
    # A value on an edge belongs to the bin above it; nothing at all is a label that is absent.
    above = (name for name, edge in zip(VOLUME_BINS, _EDGES[1:], strict=True) if value < edge)
    return next(above, VOLUME_BINS[-1]) if value else ABSENT


# ------------------------------------------------------------------------------------------ region, shape, spread

_REGION_STEMS = {
    "front": "frontal",
    "pariet": "parietal",
    "occipit": "occipital",
    "tempor": "temporal",
    "limbic": "limbic",
    "insula": "insula",
    "subcortical": "subcortical",
    "cerebell": "cerebellum",
    "stem": "brainstem",
}
_REGION_WORDS = (
    r"(?:bi-?|pre-?|(?:fronto|parieto|temporo|occipito)-?){0,3}"
    r"(?:frontal|parietal|occipital|temporal|limbic|insular?|subcortical|cerebell(?:um|ar)|brain[\s-]?stem)\b"
)
_REGION = (
    rf"(?:\b(?:left|right)\s+)?\b{_REGION_WORDS}"
    r"(?!\s+(?:evolution|changes?|course|progression|planes?|views?|horns?|bones?|sinus\w*)\b)"
)
_FORMS = r"(?:shaped?|contour|morphology|form)\b"
_SHAPE_WORDS = {"rounded": "round", "ovoid": "oval", **{shape: shape for shape in SHAPES}}
_SHAPE = (
    rf"\b(?:{'|'.join(_SHAPE_WORDS)}|irregularly(?=\s+shaped))\b(?!\s+(?:distribution|spread|dispersion|pattern|"
    rf"enhancement|signal)\b)(?:[\s-]+(?:in\s+)?{_FORMS})?"
)
_SINGLE_LESION, _CORE_WITH_SATELLITES, _SCATTERED_LESIONS = SPREADS
_SATELLITES = r"satellites?\b(?:\s+(?:lesions?|foci|nodules?)\b)?"
_ONE = r"\b(?:(?:a\s+)?single|solitary|one)\s+(?:\w+\s+)?(?:lesion|mass)\b"
_WITH = r"\s+(?:with|plus|and)\s+(?:(?!(?:no|neither|hardly|barely)\b)\w+\s+){0,3}"
_CORE = rf"(?:\bcore\b|{_ONE}){_WITH}{_SATELLITES}|\b{_SATELLITES}"
_SINGLE = rf"{_ONE}(?!\s+with\W*$|{_WITH}satel)"
_SCATTERED = r"\bscattered\b(?:\s+(?:lesions?|foci)\b)?"

# ------------------------------------------------------------------------------------------- what is said of them

_CUES = {
    Task.VOLUME: r"\b(?:volume|size|percentage|proportion|fraction)\b",
    Task.REGION: r"\b(?:located|situated|location|regions?|lobes?|site)\b",
    Task.SHAPE: rf"\b{_FORMS}",
    Task.SPREAD: r"\b(?:spread|distribution|distributed|dispersion|dispersed)\b",
}
_CHANCE = (
    r"(?:survival|mortality|prognosis|risk|recurrence|odds|chance|likelihood|probability|confidence|certainty|accuracy|"
    r"ki-?67|methylation)"
)
_NO_VOLUME = (
    rf"\b{_CHANCE}(?:\s+(?:of|is|was|at|level|rate))*\s*[:=]?\s*{_VOLUME}"
    rf"|{_VOLUME}(?:\s*(?:\S+-year\s+)?(?:sure|certain|confident|probable|likely|accurate|{_CHANCE})\b"
    rf"|(?=\s+of\s+(?:(?:the|all|this|whole|entire|overall|left|right)\s+)*(?:{_REGION_WORDS}|"
    r"(?:it|its|them|lesions?|tumou?rs?|mass|patients|cases|cells|{label})(?![\w-])|"
    r"total\b(?!\s+(?:\w+\s+)?(?:brain|volume)\b))))"
    rf"|\b(?:(?:in|de)creased?|gr[eo]wn?|shr[au]nk|reduced|changed)\s+by\s+{_NUMBER}{_PERCENT}"
)
"""A chance, a share of patients or of less than the brain, a change."""
_OTHER = (
    rf"\b(?:{_CHANCE}|elsewhere|other|another|second|additional|shift|mass\s+effect|ha?emorrhage|bleeding|"
    r"hydrocephalus|herniation|calcifications?|diagnosis|grade|mutations?)\b"
)
"""After "the risk" a percentage is none of the brain; "no lesion elsewhere" does not say that the label is absent."""
_SEEN = (
    r"(?:present|seen|visible|identified|detected|found|observed|visuali[sz]ed|apparent|evident|demonstrated|noted|"
    r"appreciated)"
)
_GONE = (
    rf"\bnot\s+(?:\w+ly\s+)?(?:be\s+|been\s+)?{_SEEN}\b|\babsent\b"
    r"|\b(?:not|unable\s+to)\s+(?:able\s+to\s+)?(?:see|identify|find|detect|visuali[sz]e)\b"
    r"|\bno\s+(?:(?:evidence|signs?)\s+of\s+)?(?:visible\s+|such\s+)?(?:(?:the|any)\s+)?(?:{label}|lesions?|tumou?r)\b"
)
_TELL = (
    r"(?:provide|answer|comment|assess|say|tell|give|advise|determine|discuss|help|offer|recommend|address|speak|"
    r"evaluate|infer|predict|judge|know|estimate|state|describe|report|derive|confirm|conclude|interpret|diagnose|"
    r"prescribe|suggest|classify|establish|specify|characteri[sz]e|measure)"
)
_TOLD = (
    r"(?:determined|assessed|answered|provided|inferred|established|told|derived|predicted|given|evaluated|estimated|"
    r"stated|said|judged|concluded|addressed|discussed)"
)
_REFUSES = "|".join(
    (
        rf"(?:\b(?:can|could|do|will|would|am|are)\s+not|\bunable\s+to|\bdeclines?\s+to|\b(?:im|not\s+)possible\s+to)"
        rf"\s+(?:able\s+to\s+)?(?:\w+ly\s+)?{_TELL}\b",
        rf"\b(?:can|could)\s+not\s+be\s+(?:\w+ly\s+)?{_TOLD}\b",
        r"\b(?:not|unable\s+to)\s+(?:see|view|access|open|analy[sz]e)\s+(?:\w+\s+){0,2}(?:images?|scans?|pictures?)\b",
        r"\b(?:analysis|model|assessment|system|images?|imaging|scans?|data)\s+(?:do|does|can)\s+not\s+"
        r"(?:cover|include|address|provide|assess|evaluate|allow|contain|tell)\b",
        r"\b(?:have|has|having|is|are)\s+no\s+(?:\w+\s+)?(?:information|knowledge|data|opinion|basis|means)\b",
        r"\b(?:offer|provide|give)\s+no\s+(?:\w+\s+)?(?:assessment|opinion|information|answer|advice|comment)\b",
        r"\b(?:do|does)\s+not\s+have\s+(?:\w+\s+){0,2}(?:information|knowledge|data|expertise|ability|means)\b",
        r"\b(?:insufficient|not\s+enough|lacks?|lacking)\s+(?:\w+\s+)?(?:information|data)\b",
        r"\b(?:outside|beyond|not\s+within|not\s+part\s+of|out\s+of)\s+(?:of\s+)?(?:my|the|this|our|its)\s+"
        r"(?:\w+\s+){0,2}?(?:scope|domain|expertise|capabilit\w+|remit|knowledge|competence|field|abilit\w+|purview)\b",
        r"\b(?:outside|beyond|out\s+of)\s+scope\b|\b(?:outside|beyond)\s+what\b|\bnot\s+something\s+(?:that\s+)?i\s+can\b",
        r"\bnot\s+available\b|\bunavailable\b|\bconsult\s+(?:an?|your|with)\b",
    )
)
_NO_DENIAL = (
    r"\bnot\s+(?:only|just|merely|simply|solely)\b(?!\s+(?:a\s+)?(?:single|solitary|one)\b)|"
    r"\bnot\s+(?:absent|n\s?/\s?a)\b|\b(?:no|without(?:\s+a)?|beyond(?:\s+a(?:ny)?)?)\s+doubt\b|"
    r"\bnot\s+(?:extend(?:ing)?\s+)?beyond\b|\b(?:round|focus)\s+of\b|\bfocus\s+(?:is\s+)?on\b"
)
_UNSURE = r"\b(?:unclear|uncertain|unknown|indeterminate|equivocal|doubtful|doubts?|not\s+(?:clear|certain|known))\b"
_TOUCHED = r"(?:involved|affected|touched|reached|invaded|infiltrated|included|implicated|occupied|covered)"
_AFTER_IS = "|".join(rf"(?<=\b{verb}\s)" for verb in ("is", "are", "appear", "appears", "looks", "remain", "remains"))
_DENIED = (
    r"\b(?:spared|uninvolved|unaffected|excluded|ruled\s+out|unlikely(?!\s+to\b)|not\s+(?:among|(?:one|part)\s+of))\b"
    rf"|\b(?:not|unlikely\s+to)\s+(?:(?:\w+ly|appears?|seems?|to|be|been)\s+)*{_TOUCHED}\b"
    rf"|(?:{_AFTER_IS})(?:(?:entirely|completely|otherwise)\s+)?"
    r"(?:normal|unremarkable|intact|preserved|healthy|untouched|clear|free)\b(?!\s+(?:in|on|of|from|that)\b)"
    r"|\b(?:no|without)\s+(?:evidence\s+of\s+)?involvement\b(?!\s+(?:of|in)\b)"
    r"|\b(?:free|clear|devoid|negative)\s+(?:of|from|for)\s+(?:any\s+)?"
    r"(?:disease|lesions?|tumou?r|involvement|{label})(?!\w)"
)
_BESIDE = (
    r"(?:(?:adjacent|next|close|anterior|posterior|superior|inferior|medial|lateral)\s+to|near|abut(?:s|ting)|"
    r"border(?:s|ing)|short\s+of)"
)
_DENIES = (
    r"\b(?:not\s+(?:involve|affect|include|reach|touch)|except|excluding|excludes|spares|sparing|avoids)\s*:"
    r"|\b(?:not|no|without|neither|nor|never|none\s+of|nothing(?!\s+(?:but|other)\b)|nowhere|little\s+evidence|hardly|"
    r"barely|scarcely|unlikely\s+to|fail(?:s|ed)\s+to|anything\s+but|far\s+from|rules?\s+out|lacks?|lacking|"
    rf"(?:absence|free|devoid)\s+of|more\s+than(?=\s+{_ONE})|rather\s+than|instead\s+of|as\s+opposed\s+to|"
    r"unlike|contrary\s+to|except(?:\s+for)?|with\s+the\s+exception\s+of|save\s+for|minus|excluding|excludes|"
    r"(?:apart\s+from|aside\s+from|other\s+than)(?![^.;]*\b(?:also|too|as\s+well)\b)|outside(?:\s+of)?|spares|sparing|"
    r"avoids|avoiding)\b"
    r"|\b(?:all|each|every(?:thing|where)?)(?:\s+(?:of|the|other|brain|nine))*(?:\s+(?:lobes?|regions?))?"
    rf"(?:\s+(?:is|are)\s+{_TOUCHED})?\s+but\b"
    rf"|\b{_BESIDE}(?=\s+(?:the\s+)?(?:(?:left|right)\s+)?{_REGION_WORDS})"
    rf"|\b(?:non|extra)-(?={'|'.join(SHAPES)}|{_REGION_WORDS})"
)
_NO_EXCEPTION = r"(?!\s+(?:of|other|but|except|apart|aside|save)\b)"
_VERB = (
    r"\b(?:is|are|was|were|has|have|had|appears?|shows?|occup(?:y|ies)|lies|falls|extends?|involves?|involved|"
    r"measures?|covers?|affects?|described|can|could|does|do|remains?|seems?|looks?|invades?|infiltrates?|"
    r"reach(?:es)?|touch(?:es)?)\b|:"
)
_SUBORDINATE = re.compile(
    r"\W*(?:if|whether|which|that|because|since|when|where|regarding|concerning|about|how|why|what|as|with|for|on)\b"
)

_ORDER = {
    "no_volume": _NO_VOLUME,
    "volume": _VOLUME,
    "core": _CORE,
    "single": _SINGLE,
    "scattered": _SCATTERED,
    "no_region": rf"\bno\s+label{{1,2}}ed\s+region\b{_NO_EXCEPTION}",
    "not_applicable": rf"\bn\s?/\s?a\b|\bnot\s+applicable\b|\bnone\b{_NO_EXCEPTION}",
    "refuses": _REFUSES,
    "no_denial": _NO_DENIAL,
    "unsure": _UNSURE,
    "denied": _DENIED,
    "gone": _GONE,
    "label": r"(?<!\w){label}(?!\w)",
    "denies": _DENIES,
    "other": _OTHER,
    "region": _REGION,
    "shape": _SHAPE,
    **{f"cue_{task}": pattern for task, pattern in _CUES.items()},
    "weak_cue": r"\bcharacteri[sz]ed\s+as\b",
    "verb": _VERB,
    "end": r"[.!?](?=\s|$)",
    "piece": r";|\b(?:but|however|although|though|whereas|while|yet|instead|rather)\b",
    "link": r"\s-\s|[,()\[\]]|\b(?:and|or)\b",
}
"""The patterns, tried in this order at every place of the text. Those above decide for those below: a range of percent
is not parted at its "and", "not only" denies nothing, a label's own words are no terms."""

_SIGNS = {
    "not_applicable": Sign.NOT_APPLICABLE,
    "refuses": Sign.REFUSES,
    "unsure": Sign.UNSURE,
    "denied": Sign.DENIED,
    "gone": Sign.GONE,
    "denies": Sign.DENIES,
    "other": Sign.OTHER,
    "weak_cue": Sign.WEAK_CUE,
    "verb": Sign.VERB,
}
_SPREAD_VALUES = {"core": _CORE_WITH_SATELLITES, "single": _SINGLE_LESION, "scattered": _SCATTERED_LESIONS}
_CUE_TASKS = {f"cue_{task}": task for task in Task}


@lru_cache(maxsize=64)
def _lexer(label: str) -> re.Pattern[str]:
    name = r"[\s-]+".join(re.escape(word) for word in re.split(r"[\s-]+", normalised(label)) if word) or "(?!)"
    return re.compile("|".join(f"(?P<{key}>{pattern.replace('{label}', name)})" for key, pattern in _ORDER.items()))


def normalised(text: str) -> str:
    """Lower case, plain dashes and quotes, no Markdown; "isn't" as "is not"; lists and paragraphs as sentences."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("—", " - ")
    text = re.sub(r"[‐‑‒–−]", "-", text)
    text = re.sub(r"\n\s*(?:[-*•]\s|\n|(?=[\w ]{1,30}:))", ". ", text)
    text = re.sub(r"[*_`]", "", text)
    text = re.sub(rf"(?:\b(?:about|around|approximately|roughly)\s+|[~≈]\s*)(?={_NUMBER})", "", text)
    text = re.sub(r"\b(?:cannot|can't)\b", "can not", text.replace("won't", "will not"))
    text = re.sub(r"n't\b", " not", text)
    return re.sub(r"\s+", " ", text.replace("e.g.", "").replace("i.e.", "")).strip()


def _marks(kind: str, text: str, last: bool) -> Iterator[Mark]:
    """What a match of a pattern stands for."""
    if kind == "volume":
        if text.endswith("brain"):
            yield Mark(Sign.CUE, Task.VOLUME)
        yield Mark(Sign.TERM, Task.VOLUME, _volume_value(text))
    elif kind == "region":
        sided = text.startswith(("left ", "right "))
        for stem in re.findall("|".join(_REGION_STEMS), text):
            yield Mark(Sign.TERM, Task.REGION, _REGION_STEMS[stem], sided)
    elif kind == "no_region":
        yield Mark(Sign.TERM, Task.REGION, NO_REGION)
    elif kind == "shape":
        word = re.split(r"[\s-]", text)[0]
        yield Mark(Sign.TERM, Task.SHAPE, _SHAPE_WORDS.get(word, word.removesuffix("ly")))
    elif kind in _SPREAD_VALUES:
        yield Mark(Sign.TERM, Task.SPREAD, _SPREAD_VALUES[kind])
    elif kind in _CUE_TASKS:
        yield Mark(Sign.CUE, _CUE_TASKS[kind])
        if text in ("located", "situated"):
            yield Mark(Sign.VERB)
    elif kind in _SIGNS:
        yield Mark(_SIGNS[kind], value=text if text == ":" else "", last=last)


_MAKES_A_CLAUSE = {Sign.VERB, Sign.REFUSES, Sign.UNSURE}


def _fragment(text: str, matches: list[re.Match[str]], link: str, start: int, end: int) -> Fragment:
    marks = tuple(
        mark
        for match in matches
        for mark in _marks(str(match.lastgroup), match[0], not re.search(r"\w", text[match.end() : end]))
    )
    alone = any(mark.sign in _MAKES_A_CLAUSE for mark in marks)
    return Fragment(marks, link, not alone or link == "or" or bool(_SUBORDINATE.match(text[start:end])))


def pieces(answer: str, label: str) -> list[Piece]:
    """The fragments of an answer about a label, piece by piece. Sentences that ask are left out."""
    text = normalised(answer)
    found: list[Piece] = []
    sentence: list[Piece] = [[]]
    matches: list[re.Match[str]] = []
    link, start = "", 0
    for match in [*_lexer(label).finditer(text), None]:
        kind = match.lastgroup if match else "end"
        if kind not in ("link", "piece", "end"):
            assert match is not None
            matches.append(match)
            continue
        end = match.start() if match else len(text)
        if text[start:end].strip():
            sentence[-1].append(_fragment(text, matches, link, start, end))
            link = ""
        matches, start = [], match.end() if match else end
        said = match[0].strip() if match else ""
        if kind == "link":
            link = said if link in ("", ",") else link
            continue
        link = ""
        sentence.append([])
        if kind == "end":
            found += [piece for piece in sentence if piece and said != "?"]
            sentence = [[]]
    return found
