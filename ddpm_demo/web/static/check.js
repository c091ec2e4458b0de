// Starts the page, unless this browser lacks something that it needs. A classic script, which old browsers can read.
(function () {
  "use strict";
  // A WebAssembly module with one instruction of SIMD (i8x16.popcnt).
  var simd = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);
  var newer = " Update it, or open this page in another browser.";

  function findProblem() {
    if (location.protocol === "file:") {
      return "A browser loads this demo only from a web server. Start one in this folder, for example with: python3 -m http.server";
    }
    if (!window.WebAssembly || !WebAssembly.validate(simd)) return "This browser cannot run the model, because it has no WebAssembly SIMD." + newer;
    if (!window.Worker || !window.MessageChannel) return "This browser cannot run the model, because it has no web workers." + newer;
    if (!window.DecompressionStream) return "This browser cannot unpack the model, because it has no DecompressionStream." + newer;
    return "";
  }

  function show(text) {
    var message = document.querySelector("#message");
    message.textContent = text;
    message.hidden = false;
    document.querySelector("#loading").hidden = true;
  }

  var theme = window.matchMedia("(prefers-color-scheme: dark)");
  function follow() { document.documentElement.classList.toggle("dark", theme.matches); }
  follow();
  if (theme.addEventListener) theme.addEventListener("change", follow);

  var problem = findProblem();
  if (problem) return show(problem);
  import("./page.js").catch(function (error) { show("The demo cannot be started: " + error.message); });
})();
