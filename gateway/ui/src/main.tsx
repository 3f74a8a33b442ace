import { render } from "preact";
import { App } from "./app";
import { listenToKeys } from "./keys";
import { loadSession } from "./session";
import "./store";
import "./style.css";

const RETRY_MS = 2000;

async function begin(): Promise<void> {
  try {
    await loadSession();
  } catch {
    setTimeout(() => void begin(), RETRY_MS);
  }
}

listenToKeys();
render(<App />, document.getElementById("app") as HTMLElement);
void begin();
