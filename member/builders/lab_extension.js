// Warns a visitor in JupyterLab before the session ends for its age.
//
// Written by hand as what JupyterLab loads of a prebuilt extension: a container (webpack's module federation) with one
// module.  ENDS_AT is put in when a session starts: Unix time in seconds.

(() => {
  const ENDS_AT = "{{ENDS_AT}}";
  const WARN_BEFORE_S = [900, 120];
  const LOOK_EVERY_MS = 20_000;

  function inWords(seconds) {
    const minutes = Math.ceil(seconds / 60);
    return minutes === 1 ? "a minute" : `${minutes} minutes`;
  }

  // By the server's clock: a visitor's may be wrong by hours.
  async function clockOffset(baseUrl) {
    const response = await fetch(`${baseUrl}api`, { cache: "no-store" });
    const date = Date.parse(response.headers.get("Date"));
    return Number.isNaN(date) ? 0 : date - Date.now();
  }

  async function watch(app) {
    const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    const offset = await clockOffset(config.baseUrl).catch(() => 0);
    const waiting = [...WARN_BEFORE_S];
    const look = () => {
      const left = Number(ENDS_AT) - (Date.now() + offset) / 1000;
      if (left <= 0) clearInterval(ticking);
      let due = false;
      while (waiting.length && left <= waiting[0]) {
        waiting.shift();
        due = true;
      }
      if (!due || left <= 0) return;
      const message = `This session ends in about ${inWords(left)}, whatever runs in it. Download what you want to keep.`;
      app.commands.execute("apputils:notify", { message, type: "warning", options: { autoClose: false } });
    };
    const ticking = setInterval(look, LOOK_EVERY_MS);
    look();
  }

  const plugin = {
    id: "manybinder-session:ending",
    description: "Warns before the session ends.",
    autoStart: true,
    activate: (app) => void app.restored.then(() => watch(app)),
  };

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB["manybinder-session"] = {
    init: () => undefined,
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
})();
