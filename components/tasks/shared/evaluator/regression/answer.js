// How the service's pages show an answer: the number, and a bar of its interval.
const OUTCOME = "error";
const ANSWER_WORDS = {
  en: { error: "Error by true values", interval: "{p} interval: {low} to {high}" },
  zh: { error: "按真实值计算的误差", interval: "{p} 区间：{low} 至 {high}" },
};
const LEAST_DIGITS = 4;
const MOST_DECIMALS = 12;
const NARROWEST_BAR = 1;  // percent
const powerOfTen = (size) => Math.floor(Math.log10(size));
// Of an interval the digits are shown that its width leaves a meaning to. Without one, whole
// digits are never rounded away. Very large and very small numbers have an exponent.
function numberText(value, width = 0) {
  const size = Math.abs(value);
  const options = { signDisplay: "negative", maximumSignificantDigits: LEAST_DIGITS };
  if (size > 0 && (size < 1e-5 || size >= 1e15)) options.notation = "scientific";
  else if (size >= 1) options.maximumSignificantDigits = Math.max(LEAST_DIGITS, powerOfTen(size) + 1);
  if (width > 0 && !options.notation) {
    delete options.maximumSignificantDigits;
    options.maximumFractionDigits = Math.min(MOST_DECIMALS, Math.max(0, 1 - powerOfTen(width)));
  }
  return new Intl.NumberFormat(document.documentElement.lang || "en", options).format(value);
}
const answerName = ({ value, low, high }) => numberText(value, high - low);
const shareText = (share) => Number((share * 100).toFixed(1)) + "%";
// The bar is the range of training, where the page knows it, or it begins or ends at 0.
function intervalBar({ value, low, high }, range) {
  const start = Math.min(range[0], low, value);
  const end = Math.max(range[1], high, value);
  const percent = (number) => (number / ((end - start) || 1)) * 100;
  const width = Math.max(NARROWEST_BAR, percent(high - low));
  const fill = make("i");
  fill.style.marginLeft = Math.min(percent(low - start), 100 - width) + "%";
  fill.style.width = width + "%";
  return make("li", {}, make("span", { textContent: numberText(start) }), make("span", { textContent: numberText(end) }), make("div", { className: "bar" }, fill));
}
function answerElements(answer, { range = [0, 0] } = {}) {
  const headline = make("div", { id: "value", className: "headline" }, answerName(answer));
  if (answer.low === null || answer.high === null || answer.coverage === null) return [headline];
  const width = answer.high - answer.low;
  const interval = say("interval", { p: shareText(answer.coverage), low: numberText(answer.low, width), high: numberText(answer.high, width) });
  headline.append(make("small", { textContent: interval }));
  return [headline, make("ol", { id: "interval" }, intervalBar(answer, range))];
}
