// One explorable in all its homes. The markup comes from page.py; here its controls are wired to a source of
// pictures: files in the published book, a kernel in JupyterLab.
"use strict";

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// The native controls of `root`: `moved(state)` is called at every move of one; `show(state)` sets them all, with their
// labels, however that state came about. A state is a list: where each control's value stands among its values.
function controls(root, moved) {
  const fields = [...root.querySelectorAll(".explorable-control > :is(input, select)")];
  const texts = fields.map((field) => JSON.parse(field.dataset.texts ?? "null"));
  const sizes = fields.map((field, i) => texts[i]?.length ?? field.options?.length ?? 2);
  const read = () =>
    fields.map((field) => (field.type === "checkbox" ? +field.checked : field.selectedIndex ?? +field.value));
  const show = (state) => {
    for (const [i, field] of fields.entries()) {
      if (field.type === "checkbox") field.checked = state[i];
      else if (field.options) field.selectedIndex = state[i];
      else {
        const text = texts[i][state[i]];
        field.value = state[i];
        field.setAttribute("aria-valuetext", text);
        field.parentElement.querySelector("output").textContent = text;
      }
    }
  };
  for (const field of fields) field.addEventListener("input", () => moved(read()));
  for (const button of root.querySelectorAll(".explorable-play")) player(button);
  root.querySelector(".explorable-controls").hidden = false;
  return { read, show, sizes };
}

// A play button beside a slider: steps it to its end; where motion is unwelcome, one step a press.
function player(button) {
  const field = button.parentElement.querySelector("input");
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.classList.remove("playing");
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace("Pause", "Play"));
  };
  const step = () => {
    field.value = +field.value === +field.max ? 0 : +field.value + 1;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    if (+field.value === +field.max) stop();
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    step();
    if (calm() || +field.value === +field.max) return;
    button.classList.add("playing");
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace("Play", "Pause"));
    timer = setInterval(() => (button.isConnected ? step() : stop()), 350);
  });
  field.addEventListener("pointerdown", stop);
  field.addEventListener("keydown", stop);
}

// Show a sentence beside its picture at once, and speak it once the reader rests.
function speaker(root) {
  const readout = root.querySelector(".explorable-readout");
  let timer;
  return (sentence) => {
    if (readout.textContent === sentence) return;
    readout.textContent = sentence;
    for (const image of root.querySelectorAll("img")) image.alt = sentence;
    clearTimeout(timer);
    timer = setTimeout(() => (root.querySelector(".explorable-spoken").textContent = sentence), 400);
  };
}

// The address of a state: `#figure?control=value&...`, its controls hidden where `hide` names them ("all", or a list).
const address = {
  parse: () => {
    const [name, query = ""] = location.hash.slice(1).split("?");
    return { name: decodeURIComponent(name), words: new URLSearchParams(query) };
  },
  of: (name, words) => `${location.href.split("#")[0]}#${name}?${new URLSearchParams(words)}`,
};

// What an address says of an explorable: it sets the state, and the address follows each later move.
function addressed(root, read, go) {
  const name = root.dataset.explorable;
  const fields = [...root.querySelectorAll(".explorable-control")].map(({ dataset }) => ({
    name: dataset.name,
    words: JSON.parse(dataset.words),
  }));
  let hidden = "";
  let timer;
  const named = () => {
    const words = fields.map((field, i) => [field.name, field.words[read()[i]]]);
    return address.of(name, hidden ? [...words, ["hide", hidden]] : words);
  };
  const isFirst = () => document.querySelector(`[data-explorable="${name}"]`) === root;
  const obey = ({ move }) => {
    const { name: asked, words } = address.parse();
    if (asked !== name || !isFirst()) return false;
    hidden = words.get("hide") ?? "";
    const without = new Set(hidden.split(","));
    for (const control of root.querySelectorAll(".explorable-control")) {
      control.hidden = without.has("all") || without.has(control.dataset.name);
    }
    const places = fields.map((field) => field.words.indexOf(words.get(field.name)));
    if (move) go(read().map((now, i) => (places[i] < 0 ? now : places[i])));
    return true;
  };
  const write = () => {
    timer = clearTimeout(timer);
    history.replaceState(history.state, "", named());
  };
  const follow = () => {
    clearTimeout(timer); // a browser allows few changes a second
    timer = setTimeout(write, 250);
  };
  addEventListener("pagehide", () => timer && write());
  const copy = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy link" });
  copy.className = "explorable-link";
  copy.setAttribute("aria-label", `Copy link: ${root.getAttribute("aria-label")}`);
  copy.addEventListener("click", async () => {
    write();
    const copied = await navigator.clipboard?.writeText(named()).then(() => true, () => false);
    copy.textContent = copied ? "Copied" : "See the address bar";
    root.querySelector(".explorable-spoken").textContent = copied ? "Link copied." : "The link is in the address bar.";
    setTimeout(() => (copy.textContent = "Copy link"), 2000);
  });
  root.querySelector("figcaption").append(copy);
  addEventListener("hashchange", () => obey({ move: true }) && root.scrollIntoView());
  return { obey, follow };
}

// The published book: every state is a file, fetched at first touch.
function published(root) {
  let { frames, state, sentences } = dataOf(root);
  const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");
  const fetched = new Map();
  const load = (url) => {
    if (!fetched.has(url)) {
      const image = new Image();
      image.src = url;
      fetched.set(url, image);
      image.onerror = () => fetched.delete(url);
    }
    return fetched.get(url);
  };
  const say = speaker(root);
  const { read, show, sizes } = controls(root, (moved) => {
    go(moved);
    follow();
  });
  const place = (chosen) => chosen.reduce((sum, i, k) => sum * sizes[k] + i, 0);
  // Every way into a state ends here: a move, Back, a reload, the theme.
  const go = (next) => {
    state = next;
    show(state);
    const at = place(state);
    const url = `${frames}/${theme()}/${at}.webp`;
    const image = load(url);
    const paint = () => {
      if (place(state) !== at) return; // a later move has come
      root.querySelector(`img.only-${theme()}`).src = url;
      say(sentences[at]);
    };
    if (image.complete && image.naturalWidth) paint();
    else image.addEventListener("load", paint, { once: true });
  };
  const prefetch = () => {
    const here = place(state);
    const order = sentences.map((_, i) => i).sort((a, b) => Math.abs(a - here) - Math.abs(b - here));
    for (const i of order) load(`${frames}/${theme()}/${i}.webp`);
  };
  for (const touch of ["pointerenter", "focusin", "touchstart"]) {
    root.addEventListener(touch, prefetch, { once: true, passive: true });
  }
  const { obey, follow } = addressed(root, read, (next) => go(next));
  const restore = () => `${read()}` === `${state}` || go(read()); // what the reader had chosen, put back by the browser
  const isNew = performance.getEntriesByType("navigation")[0]?.type === "navigate";
  const untouched = `${read()}` === `${state}`; // else the browser has put back what came after the address
  if (obey({ move: untouched }) && isNew) addEventListener("load", () => root.scrollIntoView(), { once: true });
  restore();
  addEventListener("pageshow", restore);
  new MutationObserver(() => go(state)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  root.dataset.ready = "";
}

// JupyterLab: the kernel draws. (`initialize`, once a model, and `live`, once a view, go to anywidget by live.py.)
function initialize({ model }) {
  const gone = () => model.set("gone", true); // known to the page alone
  model.on("change", (itself) => itself.comm_live || gone()); // a page saved with its widgets never had a kernel
  const kernel = model.widget_manager.kernel;
  const heard = (_, status) => ["restarting", "autorestarting", "terminating", "dead"].includes(status) && gone();
  kernel?.statusChanged.connect(heard);
  kernel?.disposed.connect(gone); // shut down
  return () => {
    kernel?.statusChanged.disconnect(heard);
    kernel?.disposed.disconnect(gone);
  };
}

const GONE = "The kernel that drew this figure is gone: run the cell again.";
let views = 0;

function live({ model, el }) {
  views += 1; // two views of one model must not share their ids
  el.innerHTML = model.get("html").replaceAll(/ (id|for)="/g, `$&${views}-`);
  const root = el.firstElementChild;
  const image = root.querySelector("img");
  const bar = root.querySelector("progress");
  const alert = root.querySelector(".explorable-error");
  const say = speaker(root);
  const ask = (name, value) => {
    model.set({ [name]: value, progress: 0 }); // back at 1, this move has ended, even where all else is as before
    model.save_changes();
  };
  const { show } = controls(root, (state) => ask("state", state));
  const paint = ({ picture, sentence }) => {
    const old = image.src;
    image.src = URL.createObjectURL(new Blob([picture], { type: "image/png" }));
    if (old) URL.revokeObjectURL(old);
    say(sentence);
  };
  let painted;
  // Every way into a state ends here: a move in this view or in another, a drawing, an error, a new view.
  const look = () => {
    const [state, drawn, progress, gone] = ["state", "drawn", "progress", "gone"].map((name) => model.get(name));
    const error = gone ? GONE : model.get("error");
    show(state);
    if (drawn !== painted && drawn.picture) paint(drawn);
    painted = drawn;
    if (alert.textContent !== error) alert.textContent = error;
    alert.hidden = !error;
    root.classList.toggle("failed", Boolean(error) && `${drawn.state}` !== `${state}`);
    for (const field of root.querySelectorAll("input, select, button")) field.disabled = Boolean(gone);
    if (gone || progress === 1) root.removeAttribute("aria-busy");
    else root.setAttribute("aria-busy", "true");
    if (progress > 0) bar.value = progress;
    else bar.removeAttribute("value"); // no step done yet
  };
  model.on("change", look);
  look();
  const dark = () => {
    const isDark = document.body.dataset.jpThemeLight === "false";
    root.classList.toggle("dark", isDark);
    if (isDark !== model.get("dark")) ask("dark", isDark);
  };
  const themes = new MutationObserver(dark);
  themes.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  dark();
  root.dataset.ready = "";
  return () => {
    themes.disconnect();
    URL.revokeObjectURL(image.src);
  };
}

// A question: the reader's answer is kept in this browser, and stands beside the measured one.
function question(root, data) {
  const place = `${location.pathname}#${root.dataset.question}`;
  const memory = {
    get: () => { try { return localStorage.getItem(place); } catch { return null; } },
    set: (value) => { try { localStorage.setItem(place, value); } catch { /* a browser that keeps nothing */ } },
    forget: () => { try { localStorage.removeItem(place); } catch { /* the same */ } },
  };
  const reply = root.querySelector(".question-reply");
  const folded = root.querySelector("details");
  const again = root.querySelector('button[type="button"]');
  const choices = [...root.querySelectorAll('input[type="radio"]')];
  const number = root.querySelector('input[type="number"]');
  const given = () => (number ? number.value : `${choices.findIndex((each) => each.checked)}`);
  const isRight = (value) => (number ? data.right[0] <= +value && +value <= data.right[1] : data.right.includes(+value));
  const show = (value) => {
    if (number) number.value = value;
    else if (choices[value]) choices[value].checked = true;
    const words = number ? `${value} ${data.unit}`.trim() : choices[value].parentElement.textContent.trim();
    const right = isRight(value);
    const said = data.open ? `You said: ${words}.` : `You said: ${words}. ${right ? data.yes : data.no}`;
    reply.textContent = said.replace("..", ".");
    root.classList.toggle("right", right && !data.open);
    root.classList.add("answered");
    folded.open = right || data.tells;
    again.hidden = false;
  };
  root.addEventListener("submit", (event) => {
    event.preventDefault();
    if (given() === "-1" || given() === "") return void (reply.textContent = "First choose an answer.");
    memory.set(given());
    show(given());
  });
  again.addEventListener("click", () => {
    memory.forget();
    root.reset();
    reply.textContent = "";
    root.classList.remove("answered", "right");
    folded.open = false;
    again.hidden = true;
    (number ?? choices[0]).focus();
  });
  const kept = memory.get();
  if (kept !== null && (number || choices[kept])) show(kept);
  root.querySelector(".question-buttons").hidden = false;
  root.dataset.ready = "";
}

// JupyterLab: the answer comes when the kernel has it. (It goes to anywidget by question.py.)
function asked({ model, el }) {
  el.innerHTML = model.get("html");
  const root = el.firstElementChild;
  const answer = () => {
    const { sentence, ...data } = model.get("answer");
    const reply = root.querySelector(".question-reply");
    reply.textContent = sentence ? "" : "The kernel is still at work on the answer; choose meanwhile.";
    if (!sentence) return;
    root.querySelector("details p").textContent = sentence;
    question(root, data);
  };
  model.on("change:answer", answer);
  answer();
}

const dataOf = (root) => JSON.parse(root.querySelector("script").textContent);
if (typeof document !== "undefined") {
  document.querySelectorAll("figure[data-explorable]:has(script)").forEach(published);
  document.querySelectorAll("form[data-question]:has(script)").forEach((root) => question(root, dataOf(root)));
}
