// What scripts add to pages, all of which work without: copying, a key for the search, dialogs, the focus of a problem.
"use strict";

// Copying: a button beside each field. Over plain http there is no navigator.clipboard, but a selection can be copied.
function addCopyButton(field) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Copy";
  const label = field.getAttribute("aria-label");
  if (label) button.setAttribute("aria-label", "Copy " + label);
  button.addEventListener("click", async () => {
    let copied = false;
    try {
      if (navigator.clipboard) {
        await navigator.clipboard.writeText(field.value);
        copied = true;
      }
    } catch (refused) {
      copied = false;
    }
    if (!copied) {
      field.focus();
      field.select();
      copied = document.execCommand("copy");
      button.focus();
    }
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    if (!copied) field.select();
    announce(copied ? "Copied" : "Selected: press Ctrl and C");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  field.after(button);
  field.addEventListener("focus", () => field.select());
}

let live;
function announce(text) {
  if (!live) {
    live = document.createElement("div");
    live.className = "unseen";
    live.setAttribute("role", "status");
    document.body.append(live);
  }
  live.textContent = text;
}

// Whether the key of the search is on, which this browser keeps for itself.
function keyIsOn() {
  try {
    return localStorage.getItem("search-key") !== "off";
  } catch (refused) {
    return true;
  }
}

function listenForKeySwitch(box) {
  box.closest("[hidden]")?.removeAttribute("hidden");
  box.checked = keyIsOn();
  box.addEventListener("change", () => {
    try {
      localStorage.setItem("search-key", box.checked ? "on" : "off");
      announce(box.checked ? "The key is on" : "The key is off");
    } catch (refused) {
      box.checked = keyIsOn();
    }
  });
}

// A key that leads to the search, unless something is being typed or it is switched off.
function listenForSearchKey(field) {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== field.dataset.focusKey || typing || !keyIsOn() || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
  });
}

// Rows that are marked: all at once, how many, and a dialog that asks before they are removed.
function watchMarks(form) {
  const marks = [...form.querySelectorAll("input[data-mark]")];
  const all = form.querySelector("input[data-mark-all]");
  const button = form.querySelector("button[data-marked]");
  const dialog = document.getElementById("confirm-removal");
  if (!button) return;
  const marked = () => marks.filter((mark) => mark.checked);
  function show() {
    const count = marked().length;
    button.disabled = count === 0;
    button.textContent = count ? button.dataset.marked.replace("%", count) : button.dataset.none;
    if (all) {
      all.checked = count > 0 && count === marks.length;
      all.indeterminate = count > 0 && count < marks.length;
    }
  }
  if (all) {
    all.closest("[hidden]")?.removeAttribute("hidden");
    all.addEventListener("change", () => {
      for (const mark of marks) mark.checked = all.checked;
      show();
    });
  }
  for (const mark of marks) mark.addEventListener("change", show);
  show();
  if (!dialog || !dialog.showModal) return;
  form.addEventListener("submit", (event) => {
    if (event.submitter && event.submitter.dataset.single) {
      for (const mark of marks) mark.checked = mark.value === event.submitter.dataset.single;
      show();
    }
    const names = marked().map((mark) => mark.value);
    if (!names.length) return;
    event.preventDefault();
    const list = dialog.querySelector("ul");
    list.replaceChildren(...names.map((name) => {
      const item = document.createElement("li");
      const code = document.createElement("code");
      code.textContent = name;
      item.append(code);
      return item;
    }));
    dialog.querySelector("[data-count]").textContent = names.length === 1 ? "1 tag" : names.length + " tags";
    dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "remove") return;
    const sure = form.querySelector("input[name=confirmed]");
    sure.disabled = false;
    form.submit();
  });
}

// A name that is typed to confirm a deletion: the button waits for it.
function watchTypedName(field) {
  const button = field.form.querySelector("button[data-needs-name]");
  const check = () => { button.disabled = field.value !== field.dataset.expected; };
  field.addEventListener("input", check);
  check();
}

document.querySelectorAll("[data-copy]").forEach(addCopyButton);
document.querySelectorAll("input[data-focus-key]").forEach(listenForSearchKey);
document.querySelectorAll("input[data-key-switch]").forEach(listenForKeySwitch);
document.querySelectorAll("form[data-marks]").forEach(watchMarks);
document.querySelectorAll("input[data-expected]").forEach(watchTypedName);
document.querySelectorAll("select[data-submit]").forEach((select) => {
  select.addEventListener("change", () => select.form.requestSubmit());
});
document.querySelectorAll("[data-reload]").forEach((section) => {
  setTimeout(() => location.reload(), 1000 * section.dataset.reload);
});
document.querySelector("[data-focus]")?.focus();
