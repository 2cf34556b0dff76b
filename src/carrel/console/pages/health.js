export const title = () => "Health";
export function mount(root) { root.append(Object.assign(document.createElement("h1"), {textContent: "Health"})); }
