"""Languages: recognise the names that people write for the languages of the model.

The rules accept a code, a code with a region or script ("pt_BR", "zh-Hans"), and a name in English, German, French or
the language itself. A text that names two languages, or none of the model's, is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from catalog import limits

_NAMES: Final = """
ar ara arabic العربية arabisch arabe
az aze azerbaijani azərbaycan aserbaidschanisch
bg bul bulgarian български bulgarisch bulgare
bn ben bengali bangla বাংলা bengalisch
ca cat catalan català katalanisch
cs ces cze czech čeština tschechisch tchèque
da dan danish dansk dänisch danois
de deu ger german deutsch allemand
el ell gre greek ελληνικά griechisch grec
en eng english englisch anglais
es spa spanish español castellano castilian spanisch espagnol
fa fas per persian farsi فارسی persisch
fi fin finnish suomi finnisch finnois
fr fra fre french français französisch
he heb iw hebrew עברית hebräisch hébreu
hi hin hindi हिन्दी हिंदी
hr hrv croatian hrvatski kroatisch croate
ht hat haitian kreyòl haitianisch
hu hun hungarian magyar ungarisch hongrois
id ind indonesian indonesia indonesisch indonésien
is isl ice icelandic íslenska isländisch islandais
it ita italian italiano italienisch italien
ja jpn jp japanese 日本語 japanisch japonais
ko kor kr korean 한국어 koreanisch coréen
la lat latin latina lateinisch
lt lit lithuanian lietuvių litauisch lituanien
ms msa may malay melayu malaiisch
ne nep nepali नेपाली nepalesisch
nl nld dut dutch nederlands niederländisch néerlandais flemish
no nor nb nn nob nno norwegian norsk bokmål nynorsk norwegisch norvégien
pa pan punjabi panjabi ਪੰਜਾਬੀ
pl pol polish polski polnisch polonais
pt por portuguese português portugiesisch portugais
ro ron rum romanian română rumänisch roumain
ru rus russian русский russisch russe
sa san sanskrit संस्कृतम्
sk slk slo slovak slovenčina slowakisch slovaque
sr srp serbian српски srpski serbisch serbe
sv swe swedish svenska schwedisch suédois
sw swa swahili kiswahili
ta tam tamil தமிழ்
te tel telugu తెలుగు
th tha thai ไทย thailändisch thaï
tl tgl fil tagalog filipino
tr tur turkish türkçe türkisch turc
uk ukr ua ukrainian українська ukrainisch ukrainien
ur urd urdu اردو
vi vie vn vietnamese việt vietnamesisch vietnamien
yue cantonese 粵語 粤语 kantonesisch
zh zho chi cmn cn chinese mandarin 中文 汉语 漢語 普通话 國語 国语 chinesisch chinois
""".strip()
_CODES: Final = {name: line.split()[0] for line in _NAMES.splitlines() for name in line.split()}
_TAG: Final = re.compile(r"([a-z]{2,3})[-_][a-z0-9]{2,8}([-_][a-z0-9]{1,8})*")
_SEVERAL: Final = re.compile(r"[,;/&+|]|\b(and|und|et|or)\b")


@lru_cache(maxsize=1_000)
def find_language(text: str) -> str | None:
    """The model's code of the language that `text` names, or None."""
    plain = " ".join(text.casefold().split())
    if plain in limits.LANGUAGES:
        return plain
    if tag := _TAG.fullmatch(plain):
        return _CODES.get(tag[1])
    if _SEVERAL.search(plain):
        return None
    words = re.sub(r"\(.*?\)|\[.*?\]", " ", plain).split()
    found = {_CODES[word] for word in words if len(words) == 1 or len(word) > 3 if word in _CODES}
    return found.pop() if len(found) == 1 else None
