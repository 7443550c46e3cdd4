// The document, as the other modules use it: elements found and made, words for those who listen, complaints.

export const at = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Tell those who do not see the page; nothing is drawn. */
export function say(text) {
  at("live").textContent = text;
}

export function complain(error) {
  const notice = at("notice");
  const away = error instanceof TypeError; // what fetch throws when nobody listens
  notice.textContent = away ? "The demo does not answer: is it still running in its terminal?" : error.message;
  notice.hidden = false;
  setTimeout(() => { notice.hidden = true; }, 8000);
}
