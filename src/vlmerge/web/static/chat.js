"use strict";
// A picture, a question, and each speaker's answer as it comes.
(() => {
  const speakers = JSON.parse(byId("speakers").textContent);
  const form = byId("form"), most = Number(form.dataset.limit) * 1024 * 1024;
  let picture = null, shown = null;

  const hint = (text) => setText(byId("hint"), text);

  const take = (file) => {
    if (!file) return;
    if (!/^image\/(png|jpeg|webp)$/.test(file.type) || file.size > most) {
      hint(say("chat.limits", { size: form.dataset.limit }));
      return;
    }
    picture = file;
    shown = URL.createObjectURL(file);
    byId("preview").src = shown;
    byId("preview").hidden = false;
    byId("drop-hint").hidden = true;
    setText(byId("choose-text"), say("chat.change"));
    hint("");
  };

  const said = (place, answer) => {
    const empty = !answer.text;
    place.replaceChildren(place.firstChild,
      element("p", { class: "text", lang: "" }, empty ? element("em", {}, say("chat.empty")) : answer.text),
      element("p", { class: "took" }, say("chat.took", answer)));
  };

  const turn = async (text) => {
    const places = speakers.map((speaker) => element("div", { class: speaker.role, "aria-busy": "true" },
      element("p", { class: "who" }, element("b", {}, speaker.title), speaker.name ? ` · ${speaker.name}` : ""),
      element("p", { class: "text nil" }, say("chat.asking"))));
    byId("none").hidden = true;
    byId("turns").prepend(element("article", { class: "turn" },
      element("div", { class: "top" }, element("img", { src: shown, alt: "" }), element("h3", { lang: "" }, text)),
      element("div", { class: "said" }, ...places)));
    for (const [at, place] of places.entries()) {
      const query = new URLSearchParams({ speaker: at, question: text });
      try {
        const answer = await send(`/answer?${query}`, picture, { "Content-Type": picture.type });
        said(place, answer);
        announce(`${speakers[at].title}: ${answer.text || say("chat.empty")}`);
      } catch (error) {
        place.replaceChildren(place.firstChild, element("p", { class: "text alarm" }, say("chat.failed", { reason: error.message })));
      }
      place.removeAttribute("aria-busy");
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = byId("question").value.trim();
    if (!picture) { hint(say("chat.needs_picture")); byId("file").focus(); return; }
    if (!text) { hint(say("chat.needs_question")); byId("question").focus(); return; }
    byId("send").disabled = true;
    hint(say("chat.asking"));
    await turn(text);
    byId("send").disabled = false;
    hint("");
  });
  byId("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !byId("send").disabled) { event.preventDefault(); form.requestSubmit(); }
  });
  byId("file").addEventListener("change", (event) => take(event.target.files[0]));
  addEventListener("paste", (event) => take([...event.clipboardData.files][0]));
  const drop = byId("drop");
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); });
})();
