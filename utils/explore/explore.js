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

// The published book: every state is a file, fetched at first touch.
function published(root) {
  let { frames, state, sentences } = JSON.parse(root.querySelector("script").textContent);
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
  const { read, show, sizes } = controls(root, (moved) => go(moved));
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
  const restore = () => `${read()}` === `${state}` || go(read()); // what the reader had chosen, put back by the browser
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

if (typeof document !== "undefined") document.querySelectorAll("figure[data-explorable]:has(script)").forEach(published);
