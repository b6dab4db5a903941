// Refusals in words, for whoever can do something about them: show another key, ask for something else, or wait.

/** What a refusal means, or null where its code has to do. */
export function refusal({ status, code }, key) {
  if (status === 401) return key ? "The gateway does not take this key" : "This gateway wants a key";
  if (status === 403) return "That is not allowed";
  if (status === 429) return code === "rate_limit_exceeded" ? "A limit is used up" : "Too many requests";
  return null;
}

/** Tells how long is still to be waited, for as long as the place is shown. */
export function countDown(place, seconds) {
  const until = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    place.textContent = left > 0 ? `The server asks to wait for ${span(left)}.` : "The time to wait is over.";
    if (left > 0 && place.isConnected) setTimeout(tick, 1000);
  };
  tick();
}

const span = (seconds) => {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return [[hours, "h"], [minutes, "min"], [seconds % 60, "s"]].filter(([value]) => value > 0).map((part) => part.join(" ")).join(" ");
};
