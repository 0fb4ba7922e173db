// Buttons that copy the text of an element. Without this file the buttons stay hidden.
"use strict";
{
  const said = document.getElementById("said");

  // Select the text: where nothing may write to the clipboard, the person can copy it.
  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  // The clipboard has an interface only where the page came by https or from this
  // machine; elsewhere the older command does it.
  const copy = async (element) => {
    if (navigator.clipboard) {
      try {
        await navigator.clipboard.writeText(element.textContent);
        return true;
      } catch {
        // It is not allowed: try the other way.
      }
    }
    select(element);
    return document.execCommand("copy");
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.firstElementChild;
    const before = label.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copy(document.getElementById(button.dataset.copy));
      const message = done ? said.dataset.copied : said.dataset.notcopied;
      label.textContent = message;
      said.textContent = "";
      said.textContent = message;
      setTimeout(() => { label.textContent = before; }, 2000);
    });
  }
}
