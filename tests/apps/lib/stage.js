// What an app is tested on: Turnwell, the app in front of it, browsers in front of that; on loopback or in a lab.

import { launchChromium } from '../../browser/lib/chromium.js';
import { Turnwell } from '../../browser/lib/turnwell.js';
import { Broker } from './broker.js';
import { Example } from './example.js';
import { Lab, SERVER } from './lab.js';

/** `turnwell` and `app`; on loopback `broker` and `browser`, in a lab `lab` and `browsers`. All of it ends with `stop()`. */
export class Stage {
  /** One browser, and a broker between the app and Turnwell. */
  static onLoopback(example) {
    return Stage.#set(async (stage) => {
      stage.turnwell = await Turnwell.start();
      stage.broker = await Broker.start(stage.turnwell);
      stage.app = await Example.start(example, stage.broker);
      stage.browser = await launchChromium({ trusts: stage.turnwell.certificate });
    });
  }

  /** A browser for each client of the lab, in the order of their names. */
  static inLab(example, { clients, nat }) {
    return Stage.#set(async (stage) => {
      stage.lab = await Lab.start({ clients, nat });
      const through = stage.lab.through('server');
      stage.turnwell = await Turnwell.start({ listen: [`${SERVER}:3478`], relay: [SERVER], through });
      const { api, apiKey } = stage.turnwell;
      stage.app = await Example.start(example, { api, apiKey, host: SERVER, through });
      // Browsers encrypt, and give the camera, for pages from localhost or https only; this one stands for https.
      const flags = [`--unsafely-treat-insecure-origin-as-secure=${stage.app.origin}`];
      const open = (client) => launchChromium({ flags, through: stage.lab.through(client) });
      stage.browsers = await Promise.all(clients.map(open));
    });
  }

  static async #set(build) {
    const stage = new Stage();
    try {
      await build(stage);
      return stage;
    } catch (error) {
      await stage.stop();
      throw error;
    }
  }

  async stop() {
    await Promise.all([this.browser, ...(this.browsers ?? [])].map((browser) => browser?.close()));
    await this.app?.stop();
    this.broker?.stop();
    await this.turnwell?.stop();
    this.lab?.stop();
  }
}
