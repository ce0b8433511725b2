// Put before the scripts of every page: tells the site what happens to the page's WebSockets, in order.
(() => {
  let told = Promise.resolve();
  const tell = (socket, event) => {
    const body = JSON.stringify({ page: location.origin, socket, event });
    told = told.then(() => fetch("/.seen", { method: "POST", body }));
  };
  // Goes to another page once everything is told.
  window.leave = async (url) => {
    for (let before; before !== told; await before) before = told;
    location = url;
  };
  addEventListener("error", (fault) => tell("", `fault ${fault.message}`));
  addEventListener("unhandledrejection", (fault) => tell("", `fault ${fault.reason}`));
  window.WebSocket = class extends WebSocket {
    constructor(...words) {
      super(...words);
      const note = (event) => tell(this.url, event);
      this.addEventListener("open", () => note(`open as "${this.protocol}"`));
      this.addEventListener("message", (message) => note(`message ${message.data}`));
      this.addEventListener("error", () => note("error"));
      this.addEventListener("close", (end) => note(`close ${end.code} "${end.reason}"`));
    }
  };
})();
