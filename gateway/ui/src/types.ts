// What the API gives, as docs/answer.schema.json and the OpenAPI document state it.

export type Mode = "open" | "sealed";
export type Route = "auto" | "all";
export type Intent = "precise" | "diverse" | "fast";
export type Role = "clinician" | "silo_admin" | "hub_admin" | "auditor" | "evaluator";

export interface Span {
  n: number;
  start: number;
  end: number;
}

export interface Sentence {
  text: string;
  citations: number[];
  support: number;
  spans: Span[];
}

export interface Reference {
  n: number;
  silo: string;
  document: string;
  title: string;
  start: number;
  end: number;
  section?: string;
  dated?: string;
}

export interface Source extends Reference {
  text: string;
  score: number;
}

export interface Conflict {
  kind: "disagreement" | "stale" | "dose" | "population";
  sides: Span[];
  detail: string;
}

export interface Missing {
  silo: string;
  reason: string;
  detail: string;
}

export interface Plan {
  mode: Mode;
  asked: string[];
  skipped: string[];
  reasons: Record<string, string>;
  coverage: number | null;
  intent: Intent;
  audit: boolean;
  notes: string[];
}

export interface Round {
  kind: "question" | "part" | "wider";
  question: string;
  query_id: string;
  asked: string[];
  released: Record<string, number>;
}

export interface Head {
  silo: string;
  entries: number;
}

export interface Answer {
  question: string;
  answer: string;
  abstained: boolean;
  sentences: Sentence[];
  sources: Source[];
  plan: Plan;
  missing: Missing[];
  withheld: Record<string, number>;
  released: Record<string, number>;
  flagged: Record<string, string>;
  rounds: Round[];
  conflicts: Conflict[];
  dropped: number;
  notes: string[];
  mode: Mode;
  model: string;
  extractive: boolean;
  timings_ms: Record<string, number>;
  suggestions?: string[];
  receipt: { body?: { created?: number; federation?: string; query_id?: string } };
}

export interface Judgement {
  correct: boolean | null;
  supported: boolean | null;
  complete: boolean | null;
  harmless: boolean | null;
  helpful: boolean | null;
  comment: string;
}

export interface KeptTurn {
  n: number;
  asked: number;
  question: string;
  state: "asking" | "answered" | "unanswered";
  understood: string;
  answer: string;
  abstained: boolean;
  sources: Reference[];
  missing: Missing[];
  query_id: string;
  feedback: Judgement | null;
}

export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  turns: number;
}

export interface WholeConversation extends Omit<Conversation, "turns"> {
  turns: KeptTurn[];
}

export interface Person {
  name: string;
  shown: string;
  roles: Role[];
}

export interface Session {
  site: "gateway" | "silo";
  node: string;
  organisation: string;
  sign_in: "none" | "local" | "oidc" | "link";
  provider: string;
  person: Person | null;
  csrf: string;
  idle_s: number;
  keep_days?: number;
  feedback_for_tuning?: boolean;
}

export interface Status {
  ready: boolean;
  hub: boolean;
  silos: string[];
  profiled: string[];
  refused_profiles: Missing[];
}

export interface SiloNews {
  silo: string;
  state: "asked" | "answered" | "missing" | "released";
  ms: number;
  passages: number;
  detail: string;
}

export interface ReceiptCheck {
  holds: boolean;
  checks: { name: string; holds: boolean; detail: string }[];
}
