// The key, for gateways that want one: asked for where it is needed, kept for this tab only, and never part of an address.

const KEPT = "flumen-key";
const $ = (id) => document.getElementById(id);

let changed = () => {};

/** The key in use; an empty string without one. */
export const key = () => sessionStorage.getItem(KEPT) ?? "";

/** What a request carries to show it. */
export const headers = () => (key() ? { authorization: `Bearer ${key()}` } : {});

/** Asks for a key because of a refusal of the one that was sent, which is not sent again. */
export function refused(sent, words) {
  // Meanwhile there may be another.
  if (sent !== key()) return;
  sessionStorage.removeItem(KEPT);
  if (sent) open(`The gateway does not take this key: ${words}`);
  else open("This gateway wants a key.", false);
  // Who writes is not disturbed, and writes nothing into the wrong field.
  if ($("prompt").value === "") $("key").focus();
}

/** Shows the field, and why; what is asked for the first time is no fault. */
function open(why = "", bad = true) {
  $("key-form").hidden = false;
  $("key-problem").textContent = why;
  $("key-problem").classList.toggle("bad", bad);
  show();
}

function close() {
  $("key-form").hidden = true;
  $("key").value = "";
  show();
}

function show() {
  $("key-button").textContent = key() ? "Key ✓" : "Key";
  $("key-button").setAttribute("aria-label", key() ? "Key, in use" : "Key");
  $("key-button").setAttribute("aria-expanded", String(!$("key-form").hidden));
  $("key-forget").hidden = !key();
}

async function use(event) {
  event.preventDefault();
  const given = $("key").value.trim();
  // Headers have no room for anything else, and what is pasted has often more.
  if (!/^[\x21-\x7e]+$/.test(given)) {
    open("A key has neither spaces nor letters with accents.");
    return;
  }
  sessionStorage.setItem(KEPT, given);
  $("key").value = "";
  open();
  if (await changed()) {
    close();
    $("prompt").focus();
  } else if (key() === given) {
    open("The gateway could not check the key. It is kept, and sent with the next request.");
  }
}

/** `onChange` is told of another key, and answers whether the gateway has taken it. */
export function setUp(onChange) {
  changed = onChange;
  $("key-form").addEventListener("submit", use);
  $("key-form").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
    $("key-button").focus();
  });
  $("key-forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEPT);
    close();
    $("key-button").focus();
    changed();
  });
  $("key-button").addEventListener("click", () => {
    if (!$("key-form").hidden) return close();
    open();
    $("key").focus();
  });
  show();
}
