// Who is signed in, and when nobody has been at the page for too long.

import { computed, effect, signal } from "@preact/signals";
import { call, json } from "./api";
import type { Role, Session } from "./types";

export const session = signal<Session | null>(null);
/** Seconds until the page signs the person out; null while they are at work. */
export const leaving = signal<number | null>(null);

const WARN_S = 60;
const TOUCH_EVERY_MS = 60_000;
const NOTE_EVERY_MS = 2_000;
const LAST_ACTIVE = "siloquy.active";
const LEFT = "siloquy.left";

export async function loadSession(): Promise<void> {
  session.value = await json<Session>("v1/session");
}

export function may(...roles: Role[]): boolean {
  return session.value?.person?.roles.some((role) => roles.includes(role)) ?? false;
}

export async function signIn(name: string, password: string): Promise<void> {
  session.value = await json<Session>("v1/session", { method: "POST", body: { name, password } });
}

/** End the session; all that the page has shown is forgotten with it. */
export async function signOut(): Promise<void> {
  // This person's other tabs go too: they would go on showing what was asked.
  localStorage.setItem(LEFT, String(Date.now()));
  const reply = await call("v1/session", { method: "DELETE" }).catch(() => null);
  const told = reply?.status === 200 ? ((await reply.json()) as { logout?: string }) : {};
  if (told.logout) location.assign(told.logout);
  else location.reload();
}

// -- nobody there ---------------------------------------------------------------------------------

let touched = Date.now();
let noted = 0;

function active(): void {
  const now = Date.now();
  if (now - noted < NOTE_EVERY_MS) return;
  noted = now;
  // Other tabs of the same person count too.
  localStorage.setItem(LAST_ACTIVE, String(now));
  if (now - touched > TOUCH_EVERY_MS) {
    touched = now;
    void loadSession().catch(() => {});
  }
}

/** Go on after the warning. */
export function stay(): void {
  noted = touched = 0;
  active();
  leaving.value = null;
}

function tick(): void {
  const now = session.value;
  if (!now?.person || now.sign_in === "none") {
    leaving.value = null;
    return;
  }
  const last = Number(localStorage.getItem(LAST_ACTIVE) ?? Date.now());
  const left = Math.round(now.idle_s - (Date.now() - last) / 1000);
  leaving.value = left <= Math.min(WARN_S, now.idle_s / 2) ? Math.max(left, 0) : null;
  if (left <= 0) void signOut();
}

const whoever = computed(() => session.value?.person?.name ?? "");
let before = "";
effect(() => {
  if (!whoever.value) return;
  localStorage.setItem(LAST_ACTIVE, String(Date.now()));
  // Somebody else has signed in where a session had ended: nothing of the page is theirs to see.
  if (before && before !== whoever.value) location.reload();
  before = whoever.value;
});
addEventListener("storage", ({ key, newValue }) => {
  if (key === LEFT && newValue && whoever.peek()) location.reload();
});
// Another tab may have signed in, out, or in as somebody else while this one was not looked at.
document.addEventListener("visibilitychange", () => {
  const now = session.peek();
  if (!document.hidden && now && now.sign_in !== "none") void loadSession().catch(() => {});
});
for (const name of ["keydown", "pointerdown", "wheel"]) {
  addEventListener(name, () => leaving.value === null && active(), { passive: true });
}
setInterval(tick, 1000);
