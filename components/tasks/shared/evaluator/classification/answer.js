// How the service's pages show an answer: the most probable class, and bars of all.
const OUTCOME = "accuracy";
const ANSWER_WORDS = {
  en: { more: "{n} more classes, together {p}", accuracy: "Accuracy by labels" },
  zh: { more: "其余 {n} 类合计 {p}", accuracy: "按反馈标签的准确率" },
};
const SHOWN_CLASSES = 10;
const percent = (share) => (share * 100).toFixed(1) + "%";
const answerName = (answer) => answer.label;
function answerElements(answer) {
  const headline = make("div", { id: "label", className: "headline" }, answer.label, make("small", { textContent: percent(answer.probability) }));
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const bars = make("ol", { id: "bars" }, ...ranked.slice(0, SHOWN_CLASSES).map(([label, share]) => {
    const fill = make("i");
    fill.style.width = share * 100 + "%";
    return make("li", {}, make("span", { textContent: label }), make("span", { textContent: percent(share) }), make("div", { className: "bar" }, fill));
  }));
  const rest = ranked.slice(SHOWN_CLASSES);
  if (rest.length) bars.append(make("li", { className: "hint", textContent: say("more", { n: rest.length, p: percent(rest.reduce((sum, [, share]) => sum + share, 0)) }) }));
  return [headline, bars];
}
