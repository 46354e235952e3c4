// <button data-copy> copies the text of the <pre> beside it.
// Browsers give the clipboard to secure pages only; elsewhere there is nothing to press.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) button.hidden = true;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    const word = button.textContent;
    button.textContent = "✓";
    setTimeout(() => { button.textContent = word; }, 1200);
  });
}
