export const title = () => "Sessions";
export function mount(root) { root.append(Object.assign(document.createElement("h1"), {textContent: "Sessions"})); }
