// A worker for pages that are opened as files, where browsers allow none: its script runs in a hidden frame.
// The search of the theme asks for it by the second name.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      const answer = event => { this.dispatchEvent(event); if (this.onmessage) this.onmessage(event) }
      this.inside = inside
      this.waiting = []

      // What the script of a worker finds: how to answer, and how to load further scripts.
      inside.postMessage = data => answer(new MessageEvent("message", { data }))
      inside.importScripts = (...more) => more.reduce((before, one) => before.then(() => load(one)), Promise.resolve())
      const load = source => new Promise((done, failed) => {
        const script = inside.document.createElement("script")
        script.src = new URL(source, document.baseURI)
        script.onload = done
        script.onerror = failed
        inside.document.body.appendChild(script)
      })
      load(address).then(() => { this.ready = true; this.waiting.splice(0).forEach(data => this.postMessage(data)) })
    }

    postMessage(data) {
      if (!this.ready) return this.waiting.push(data)
      this.inside.dispatchEvent(new MessageEvent("message", { data }))
      if (this.inside.onmessage) this.inside.onmessage(new MessageEvent("message", { data }))
    }

    terminate() {}
  }
}
