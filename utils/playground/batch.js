// Figures that take a reader's own numbers, typed or dragged: closed formulae, so the page computes them itself.
// The markup is that of batch.py; `speaker` is that of explore.js, which comes before.
"use strict";

const round = (value) => Math.round(value * 100) / 100 + 0; // no -0
const write = (value) => `${round(value)}`.replace("-", "\u2212");
const list = (values) => values.map(write).join(", ");
const sum = (values) => values.reduce((total, each) => total + each, 0);
const average = (values) => sum(values) / values.length;

function normalised(x) {
  const mean = average(x);
  const sigma = Math.sqrt(average(x.map((each) => (each - mean) ** 2)));
  return { mean, sigma, hat: x.map((each) => (sigma ? (each - mean) / sigma : 0)) };
}

const FLAT = "All values are the same: their standard deviation is 0, and nothing is left to normalise.";
const FEW = "Type two numbers or more: one value has no spread.";

// Shapes, as text of SVG. `drag` names the field that a shape moves.
const shape = (name, given, inside = "") => {
  const told = Object.entries(given).map(([key, value]) => `${key}="${value}"`);
  return `<${name} ${told.join(" ")}>${inside}</${name}>`;
};
const stroke = (x1, y1, x2, y2, mark = "faint") => shape("line", { x1, y1, x2, y2, class: mark });
const words = (x, y, text, anchor = "middle", mark = "") =>
  shape("text", { x, y, "text-anchor": anchor, class: mark }, text);
const handle = (cx, cy, field, mark = "") => {
  const dot = shape("circle", { cx, cy, r: 7, class: `dot ${mark}` });
  return shape("g", { class: "drag", "data-field": field }, dot + shape("circle", { cx, cy, r: 22, class: "reach" }));
};

// A number line at the height y, with ticks; `at` takes a value to its place.
function axis(width, y, reach, step, title) {
  const at = (value) => width / 2 + (value / reach) * (width / 2 - 24);
  const ticks = [];
  for (let tick = -Math.floor(reach / step) * step; tick <= reach; tick += step) ticks.push(tick);
  const drawn = ticks.map(at).map((x, i) => stroke(x, y, x, y + 5, "tick") + words(x, y + 19, write(ticks[i])));
  return [at, stroke(at(-reach), y, at(reach), y, "tick") + drawn.join("") + words(6, y - 26, title, "start", "title")];
}

const reachOf = (values, least) => Math.max(least, ...values.map(Math.abs));
const stepOf = (reach) => {
  const ten = 10 ** Math.floor(Math.log10(reach / 4));
  return [1, 2, 5, 10].map((times) => times * ten).find((step) => reach / step <= 6);
};

// Dots on a line, and where normalising takes them; the fields that are empty are not in the batch.
function batch({ x }, width, tell, mine = -1) {
  const present = x.map((value, i) => [value, i]).filter(([value]) => value !== null);
  const values = present.map(([value]) => value);
  const { mean, sigma, hat } = normalised(values);
  const reach = reachOf(values, 10);
  const [at, above] = axis(width, 60, reach, stepOf(reach), "your batch");
  const [to, below] = axis(width, 170, 3, 1, "normalised");
  const seen = values.length > 1 && sigma > 0;
  const mark = (i) => (i === mine ? "mine" : "");
  const bars = stroke(at(mean), 32, at(mean), 74, "bar") + stroke(at(mean - sigma), 40, at(mean + sigma), 40, "bar");
  const leads = present.map(([value, i], k) => {
    const dot = shape("circle", { cx: to(hat[k]), cy: 170, r: 5, class: `dot ${mark(i)}` });
    return stroke(at(value), 60, to(hat[k]), 170, `lead ${mark(i)}`) + dot;
  });
  const dots = present.map(([value, i]) => handle(at(value), 60, i, mark(i)));
  return {
    drawn: above + below + (seen ? bars + leads.join("") : "") + dots.join(""),
    sentence: values.length < 2 ? FEW : !sigma ? FLAT : tell({ values, mean, sigma, hat }),
    back: (px) => ((px - width / 2) / (width / 2 - 24)) * reach,
  };
}

const OWN = {
  one_batch: (fields, width) =>
    batch(fields, width, ({ mean, sigma, hat }) =>
      `The mean is ${write(mean)}, the standard deviation ${write(sigma)}. Normalised, the values are ${list(hat)}.`),

  company: (fields, width) => {
    if (fields.x[0] === null) return { ...batch(fields, width, () => ""), sentence: "Type a value of your own first." };
    return batch(fields, width, ({ values, hat }) =>
      `In this company of ${values.length}, your value ${write(values[0])} becomes ${write(hat[0])}. ` +
      `No value of a batch of ${values.length} can become larger than ${write(Math.sqrt(values.length - 1))}.`, 0);
  },

  sigmoid_range: ({ x: [gamma, beta] }, width) => {
    const sigmoid = (z) => 1 / (1 + Math.exp(-z));
    const reach = 10;
    const [at, below] = axis(width, 170, reach, 5, "");
    const up = (share) => 160 - 130 * share;
    const curve = (from, to) => {
      const z = Array.from({ length: 81 }, (_, i) => from + ((to - from) * i) / 80);
      return z.map((each) => `${at(each)},${up(sigmoid(each))}`).join(" ");
    };
    const [low, high] = [beta - 2 * Math.abs(gamma), beta + 2 * Math.abs(gamma)];
    const clip = (z) => Math.max(-reach, Math.min(reach, z));
    const drawn =
      below + stroke(at(-reach), up(0), at(reach), up(0)) + stroke(at(-reach), up(1), at(reach), up(1)) +
      words(6, up(1) + 16, "1", "start") + words(6, up(0) - 4, "0", "start") +
      shape("polyline", { points: curve(-reach, reach), class: "curve" }) +
      shape("polyline", { points: curve(clip(low), clip(high)), class: "used" }) +
      handle(at(clip(beta)), up(sigmoid(beta)), 1, "mine") +
      handle(at(clip(beta + 2 * gamma)), up(sigmoid(beta + 2 * gamma)), 0);
    const share = (z) => `${Math.round(100 * sigmoid(z))} %`;
    const slope = (z) => sigmoid(z) * (1 - sigmoid(z));
    const steepest = slope(Math.max(low, Math.min(high, 0)));
    const bends = !gamma ? "With \u03b3 = 0 they all become the same." :
      steepest < 0.05 ? "It is flat there: what comes in hardly shows." :
      Math.min(slope(low), slope(high)) > 0.4 * steepest ? "It is not far from a straight line there." :
      "It is bent there: steep in one place, flat in another.";
    return {
      drawn,
      sentence: `Normalised values from \u22122 to 2 use the sigmoid from ${share(low)} to ${share(high)}. ${bends}`,
      back: (px, _, field) => {
        const z = ((px - width / 2) / (width / 2 - 24)) * reach;
        return field ? z : (z - beta) / 2;
      },
    };
  },

  projection: ({ x, g }, width) => {
    const { hat, sigma } = normalised(x);
    const centred = g.map((each) => each - average(g));
    const along = average(centred.map((each, i) => each * hat[i]));
    const left = centred.map((each, i) => each - along * hat[i]);
    const reach = reachOf([...g, ...centred, ...left], 3);
    const up = (value) => 105 - (value / reach) * 75;
    const third = width / 3;
    const columns = [["the gradient g", g], ["minus mean", centred], ["minus x\u0302 part", left]];
    const drawn = columns.map(([title, values], k) => {
      const place = (i) => third * k + (third * (i + 1)) / 4;
      const bars = values.map((value, i) => {
        const [y, height] = [Math.min(up(value), up(0)), Math.abs(up(value) - up(0))];
        const bar = shape("rect", { x: place(i) - 9, y, width: 18, height, class: k === 2 ? "bar mine" : "bar" });
        const told = words(place(i), 208, write(width < 450 ? Math.round(10 * value) / 10 : value));
        return bar + told + (k ? "" : handle(place(i), up(value), i + 3));
      });
      const line = stroke(third * k + 8, up(0), third * (k + 1) - 8, up(0), "tick");
      return words(third * (k + 0.5), 16, title, "middle", "title") + line + bars.join("");
    });
    const through =
      `What BN lets through, but for the factor \u03b3/\u03c3, is ${list(left)}: ` +
      `its sum is 0, and so is its product with x\u0302 (${list(hat)}).`;
    return { drawn: drawn.join(""), sentence: sigma ? through : FLAT, back: (_, py) => ((105 - py) / 75) * reach };
  },
};

function own(root) {
  const [svg, fields] = [root.querySelector("svg"), [...root.querySelectorAll("input")]];
  const say = speaker(root);
  let back;
  let held = -1;
  const draw = () => {
    const given = { x: [], g: [] };
    for (const { value, required, dataset } of fields) given[dataset.of].push(value || required ? +value : null);
    const width = Math.max(280, svg.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} 215`);
    const made = OWN[root.dataset.own](given, width);
    svg.innerHTML = made.drawn;
    back = made.back;
    svg.setAttribute("aria-label", made.sentence);
    say(made.sentence);
  };
  svg.addEventListener("pointerdown", (event) => {
    const grip = event.target.closest("[data-field]");
    if (!grip) return;
    held = +grip.dataset.field;
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (held < 0) return;
    const { left, top } = svg.getBoundingClientRect();
    const value = back(event.clientX - left, event.clientY - top, held);
    const { min, max } = fields[held];
    fields[held].value = Math.round(10 * Math.min(max || Infinity, Math.max(min || -Infinity, value))) / 10;
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (held = -1));
  for (const field of fields) field.addEventListener("input", draw);
  addEventListener("pageshow", draw);
  new ResizeObserver(draw).observe(root);
  root.querySelector(".own-numbers").hidden = false;
  draw();
  root.dataset.ready = "";
}

// JupyterLab: the same figure needs no kernel once it is there. (It goes to anywidget by batch.py.)
function ownLive({ model, el }) {
  el.innerHTML = model.get("html");
  const dark = () => el.firstElementChild.classList.toggle("dark", document.body.dataset.jpThemeLight === "false");
  const themes = new MutationObserver(dark);
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  dark();
  own(el.firstElementChild);
  return () => themes.disconnect();
}

if (typeof document !== "undefined") document.querySelectorAll("figure[data-own]").forEach(own);
