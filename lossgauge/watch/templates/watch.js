"use strict";
// Asks for the status every two seconds, and loads the report again when a run has ended.
const at = (id) => document.getElementById(id);
const frame = at("report");
let shown;

function reload(tag) {
  if (tag === shown) return;
  const first = shown === undefined;
  shown = tag;
  if (first) {
    frame.src = "report";
    return;
  }
  const before = frame.contentWindow;
  const place = before.scrollY;
  const open = [...before.document.querySelectorAll("details[open][id]")].map((part) => part.id);
  frame.addEventListener("load", () => {
    for (const id of open) {
      const part = frame.contentWindow.document.getElementById(id);
      if (part) part.open = true;
    }
    frame.contentWindow.scrollTo(0, place);
  }, { once: true });
  before.location.reload();
}

function item(text, failed) {
  const line = document.createElement("li");
  line.textContent = text;
  if (failed) line.className = "error";
  return line;
}

function show(status) {
  document.title = `${status.study}: ${status.words}`;
  at("study").textContent = status.study;
  at("words").textContent = status.words;
  at("words").className = status.state === "error" ? "error" : "";
  at("bar").hidden = !status.expected;
  at("bar").max = status.expected || 1;
  at("bar").value = status.done + status.failed;
  at("counts").textContent = status.expected
    ? `${status.done} done, ${status.running.length} running, ${status.failed} failed, ${status.waiting} waiting`
    : "";
  const lines = [
    ...status.running.map((run) => item(`${run.run}: epoch ${run.epoch} of ${run.epochs}`)),
    ...status.failures.map((run) => item(`failed: ${run.run}: ${run.error}`, true)),
  ];
  at("more").hidden = !lines.length;
  at("summary").textContent = "running and failed runs";
  at("runs").replaceChildren(...lines);
  reload(status.page);
}

async function ask() {
  try {
    const answer = await fetch("status", { cache: "no-cache" });
    if (!answer.ok) throw new Error(answer.statusText);
    show(await answer.json());
  } catch (error) {
    at("words").textContent = "lossgauge watch has ended; the page is as it was";
  }
  setTimeout(ask, 2000);
}

ask();
