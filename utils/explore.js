// One explorable in all its homes. The markup comes from explore.py; here its controls are wired to a source of
// pictures: files in the published book, a kernel in JupyterLab.
"use strict";

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Wire the native controls of `root`; `moved(indices, spoken)` is called at every move.
function controls(root, moved) {
  const fields = [...root.querySelectorAll(".explorable-control > :is(input, select)")];
  const index = (field) => (field.type === "checkbox" ? +field.checked : field.selectedIndex ?? +field.value);
  const state = () => fields.map(index);
  for (const field of fields) {
    field.addEventListener("input", () => {
      if (field.type === "range") {
        const text = JSON.parse(field.dataset.texts)[field.value];
        field.setAttribute("aria-valuetext", text);
        field.parentElement.querySelector("output").textContent = text;
      }
      moved(state());
    });
  }
  for (const button of root.querySelectorAll(".explorable-play")) player(button);
  root.querySelector(".explorable-controls").hidden = false;
  return state;
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
  let timer;
  return (sentence) => {
    for (const image of root.querySelectorAll("img")) image.alt = sentence;
    root.querySelector(".explorable-readout").textContent = sentence;
    clearTimeout(timer);
    timer = setTimeout(() => (root.querySelector(".explorable-spoken").textContent = sentence), 400);
  };
}

// The published book: every state is a file, fetched at first touch.
function published(root) {
  const { frames, sentences } = JSON.parse(root.querySelector("script").textContent);
  const sizes = [...root.querySelectorAll(".explorable-control > :is(input, select)")].map((field) =>
    field.type === "checkbox" ? 2 : field.options?.length ?? +field.max + 1,
  );
  const place = (state) => state.reduce((sum, i, k) => sum * sizes[k] + i, 0);
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
  const show = () => {
    const at = place(state());
    const url = `${frames}/${theme()}/${at}.webp`;
    const image = load(url);
    const paint = () => {
      if (place(state()) !== at) return; // a later move has come
      root.querySelector(`img.only-${theme()}`).src = url;
      say(sentences[at]);
    };
    if (image.complete && image.naturalWidth) paint();
    else image.addEventListener("load", paint, { once: true });
  };
  const prefetch = () => {
    const here = place(state());
    const order = sentences.map((_, i) => i).sort((a, b) => Math.abs(a - here) - Math.abs(b - here));
    for (const i of order) load(`${frames}/${theme()}/${i}.webp`);
  };
  const state = controls(root, show);
  for (const touch of ["pointerenter", "focusin", "touchstart"]) {
    root.addEventListener(touch, prefetch, { once: true, passive: true });
  }
  if (place(state())) show(); // a reload keeps the reader's sliders: keep the picture with them
  new MutationObserver(show).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  root.dataset.ready = "";
}

// JupyterLab: the kernel draws. (`live` is exported to anywidget by explore.py.)
function live({ model, el }) {
  el.innerHTML = model.get("html");
  const root = el.firstElementChild;
  const image = root.querySelector("img");
  const say = speaker(root);
  const busy = root.querySelector(".explorable-progress");
  const bar = busy.querySelector("progress");
  const error = root.querySelector(".explorable-error");
  let waiting;
  const rest = () => {
    clearTimeout(waiting);
    busy.hidden = true;
    root.removeAttribute("aria-busy");
  };
  const ask = (key, value) => {
    model.set(key, value);
    model.set("progress", 0); // back at 1, this move has ended, even where picture and error are the same as before
    model.save_changes();
    rest();
    waiting = setTimeout(() => {
      bar.removeAttribute("value"); // no step done yet
      busy.hidden = false;
      root.setAttribute("aria-busy", "true");
    }, 150);
  };
  const draw = () => {
    const { picture, sentence } = model.get("drawn");
    const old = image.src;
    image.src = URL.createObjectURL(new Blob([picture], { type: "image/png" }));
    if (old) URL.revokeObjectURL(old);
    say(sentence);
    rest();
  };
  const complain = () => {
    error.textContent = model.get("error");
    error.hidden = !error.textContent;
    root.classList.toggle("failed", !error.hidden);
    if (!error.hidden) rest();
  };
  const advance = () => {
    const done = model.get("progress");
    if (done === 1) rest();
    else if (done > 0) bar.value = done;
  };
  controls(root, (state) => ask("state", state));
  model.on("change:drawn", draw);
  model.on("change:error", complain);
  model.on("change:progress", advance);
  draw();
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
    model.off("change:drawn", draw);
    model.off("change:error", complain);
    model.off("change:progress", advance);
    URL.revokeObjectURL(image.src);
  };
}

if (typeof document !== "undefined") document.querySelectorAll("figure[data-explorable]:has(script)").forEach(published);
