// A page that is opened from a file may not start a Worker. Its script runs in a hidden frame instead, so that the search needs
// no server; without this, the site would take such a shim from another one.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const { contentWindow: inside, contentDocument: page } = this.frame;
      page.open();
      page.write("<body></body>");
      page.close();
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      const script = page.createElement("script");
      script.src = new URL(url, location.href);
      this.loaded = new Promise((resolve) => (script.onload = resolve));
      page.body.append(script);
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow?.onmessage({ data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
