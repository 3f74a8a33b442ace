// Calls of the API. Addresses are relative, so that they hold under any path of a reverse proxy.

import { session } from "./session";

export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint = "",
    readonly status = 0,
  ) {
    super(message);
  }
}

export interface Call {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  body?: unknown;
  raw?: string;
  accept?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** The reply to one call; ApiError when it is a refusal, or when none came. */
export async function call(path: string, options: Call = {}): Promise<Response> {
  const { method = "GET", body, raw, accept = "application/json", signal } = options;
  const headers: Record<string, string> = { Accept: accept, ...options.headers };
  const text = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  if (text !== undefined) headers["Content-Type"] = "application/json";
  const csrf = session.value?.csrf;
  if (csrf && method !== "GET") headers["X-CSRF-Token"] = csrf;
  let reply: Response;
  try {
    reply = await fetch(path, { method, headers, body: text ?? null, signal: signal ?? null });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("gateway", "", "");
  }
  if (reply.ok) return reply;
  throw await refusal(reply);
}

/** The JSON of a reply; undefined when it has none. */
export async function json<T>(path: string, options: Call = {}): Promise<T> {
  const reply = await call(path, options);
  return (reply.status === 204 ? undefined : await reply.json()) as T;
}

async function refusal(reply: Response): Promise<ApiError> {
  if (reply.status === 401 && session.value && session.value.sign_in !== "none") {
    session.value = { ...session.value, person: null, csrf: "" };
  }
  try {
    const { error } = (await reply.json()) as { error: { code: string; message: string; hint: string } };
    return new ApiError(error.code, error.message, error.hint, reply.status);
  } catch {
    return new ApiError("reply", String(reply.status), "", reply.status);
  }
}

/** Any error as one that can be shown. */
export function shown(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError("defect", String(error));
}
