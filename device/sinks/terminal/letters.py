"""The characters a terminal can show, and large letters made of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """The characters a terminal can show; ``bar`` and ``spark`` run from empty to full."""

    bar: str
    track: str
    spark: str
    letters: str
    dot: str
    ellipsis: str


# ``letters`` are a cell's two pixels: none, upper, lower, both.
UNICODE = Glyphs("╸━", "─", "▁▂▃▄▅▆▇█", " ▀▄█", "·", "…")
# The console font of Linux has no eighths and no half lines.
CONSOLE = Glyphs("━", "─", "▄█", " ▀▄█", "·", "~")
ASCII = Glyphs("#", ".", "_.-=#", "", "-", "~")


def glyphs_for(encoding: str, term: str) -> Glyphs:
    """What a terminal of this encoding and type can show."""
    try:
        (UNICODE.bar + UNICODE.track + UNICODE.spark + UNICODE.letters).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return CONSOLE if term == "linux" else UNICODE


# Letters five pixels high, three to five wide. A letter is its five rows from the top, each
# one digit in base 32 whose bits are pixels: A is .#. #.# ### #.# #.#
_FONT = """
    A25755 B65656 C34443 D65556 E74647 F74644 G34553 H55755 I72227 J11152
    K55655 L44447 Mhrlhh N9db99 O75557 P75744 Q75571 R75655 S34216 T72222
    U55557 V55552 Whhlrh X55255 Y55222 Z71247 025552 126227 261247 361216
    455711 574616 634652 771222 825252 925316 -00700 _00007 '11000 .00001
    ,00012 /11244 (12221 )21112 +02720 :01010 &25253
"""
_LETTERS = {glyph[0]: glyph[1:] for glyph in _FONT.split()} | {" ": "00000"}


def big(text: str, width: int, glyphs: Glyphs) -> list[str] | None:
    """The text in letters three lines high, of one or two rows, or None where it cannot be."""
    text = text.upper()
    if not glyphs.letters or not all(char in _LETTERS for char in text):
        return None
    rows = [_row(text, glyphs)]
    if len(rows[0][0]) > width:
        gaps = [gap for gap, char in enumerate(text) if char == " "]
        splits = [[_row(text[:gap], glyphs), _row(text[gap + 1 :], glyphs)] for gap in gaps]
        # Broken where both rows come out most alike.
        rows = min(splits, key=lambda split: max(len(row[0]) for row in split), default=rows)
    if any(len(row[0]) > width for row in rows):
        return None
    return [line for row in rows for line in row]


def _row(text: str, glyphs: Glyphs) -> list[str]:
    lines = ["", "", ""]
    for char in text:
        pixels = [int(digit, 32) for digit in _LETTERS[char]]
        columns = max(pixels).bit_length() or 2
        # Two pixel rows to a line; the sixth is the space below.
        for line, (upper, lower) in enumerate(zip(pixels[::2], [*pixels[1::2], 0], strict=True)):
            lines[line] += "".join(
                glyphs.letters[(upper >> bit & 1) + 2 * (lower >> bit & 1)]
                for bit in reversed(range(columns))
            )
            lines[line] += " "
    return [line[:-1] for line in lines]
