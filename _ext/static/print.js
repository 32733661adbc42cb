// On paper all is open and light; afterwards it is as it was.
"use strict";

const page = document.documentElement;
let before;
addEventListener("beforeprint", () => {
  before = { theme: page.dataset.theme, folded: [...document.querySelectorAll("details:not([open])")] };
  page.dataset.theme = "light";
  for (const each of before.folded) each.open = true;
  for (const image of document.images) image.loading = "eager";
});
addEventListener("afterprint", () => {
  page.dataset.theme = before.theme;
  for (const each of before.folded) each.open = false;
});
