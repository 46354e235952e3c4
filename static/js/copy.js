// <button data-copy> copies the text of the <pre> beside it.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    const word = button.textContent;
    button.textContent = "✓";
    setTimeout(() => { button.textContent = word; }, 1200);
  });
}
