// Mounts the components of the app (ddpm_demo/ui/components) on this page, with what Gradio's gr.HTML gives them: element,
// props, watch, trigger and server. The build writes each component as a module with ``html``, ``css`` and ``start``.

// Show a component in an element. ``on`` has a handler for each event that it triggers, and ``server`` the functions that it
// calls. Return a function that changes its value.
export function mount(component, element, { value = null, on = {}, server = {} } = {}) {
  const props = { value }, watchers = [];
  element.dataset.component = component.name;
  if (!document.querySelector(`style[data-of="${component.name}"]`)) {
    const style = document.createElement("style");
    style.dataset.of = component.name;
    style.textContent = `[data-component="${component.name}"] { ${component.css} }`;
    document.head.append(style);
  }
  if (component.html) element.innerHTML = component.html;
  const watch = (name, act) => watchers.push(act), trigger = (event, data) => on[event]?.(data, props.value);
  component.start({ element, props, watch, trigger, server });
  return (next) => {
    props.value = next;
    watchers.forEach((act) => act());
  };
}
