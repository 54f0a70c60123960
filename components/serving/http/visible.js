// Spells out the characters of a text that nobody sees, as components/core/escaping.py does.
const MARK = "[\\p{Mn}\\p{Me}]";
const VIRAMA = "[\\u094d\\u09cd\\u0a4d\\u0acd\\u0b4d\\u0bcd\\u0c4d\\u0ccd\\u0d4d\\u0dca\\u1039\\u17d2]";
const SEEN = [
  "[\\n\\t\\u0600-\\u0605\\u06dd\\u0890\\u0891\\u08e2]",
  // Flags of England, Scotland and Wales.
  "\\u{1f3f4}\\u{e0067}\\u{e0062}(?:\\u{e0065}\\u{e006e}\\u{e0067}|\\u{e0073}\\u{e0063}\\u{e0074}|\\u{e0077}\\u{e006c}\\u{e0073})\\u{e007f}",
  `(?<=${VIRAMA})[\\u200c\\u200d]`,
  "(?<=\\p{Script=Arabic})\\u200c(?=\\p{Script=Arabic})",
  "(?<=[\\p{Extended_Pictographic}\\p{Emoji_Modifier}\\ufe0f])\\u200d(?=[\\p{Extended_Pictographic}\\p{Sm}\\p{So}])",
  "(?<=[\\p{So}\\p{Sm}\\p{Po}\\p{Pd}\\p{Lo}0-9#*\\u2139])\\p{Variation_Selector}",
].join("|");
const UNSEEN = `[\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}]|(?<=${MARK}{4})${MARK}`;
const CHARACTERS = new RegExp(`(${SEEN})|${UNSEEN}`, "gu");
function spelled(character) {
  if (character === "\r") return "\\r";
  const code = character.codePointAt(0);
  const [letter, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return "\\" + letter + code.toString(16).padStart(digits, "0");
}
// A joiner needs its neighbours: what stands before and after a piece of a text.
function visible(text, before = "", after = "") {
  const whole = before + text + after;
  const end = whole.length - after.length;
  let place = before.length;
  let shown = "";
  for (const match of whole.matchAll(CHARACTERS)) {
    if (match.index < before.length || match.index >= end) continue;
    shown += whole.slice(place, match.index) + (match[1] || spelled(match[0]));
    place = match.index + match[0].length;
  }
  return shown + whole.slice(place, end);
}
