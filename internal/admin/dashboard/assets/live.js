// Replaces the list of running fetches every two seconds while somebody looks.
"use strict";
(() => {
  const part = document.getElementById("running");
  if (!part) return;
  let failures = 0;
  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/fills", { credentials: "same-origin" });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("running");
      if (!fresh) throw new Error("no list");
      part.replaceChildren(...fresh.childNodes);
      failures = 0;
    } catch {
      failures += 1;
      if (failures > 5) clearInterval(timer);
    }
  };
  const timer = setInterval(look, 2000);
})();
