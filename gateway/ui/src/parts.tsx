// Small parts that every view is made of.

import { createContext, type ComponentChildren, type RefObject } from "preact";
import { useContext, useEffect, useId, useRef } from "preact/hooks";
import type { ApiError } from "./api";
import { w } from "./words";

const ICONS = {
  menu: "M4 6h16M4 12h16M4 18h16",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  send: "M5 12h14M13 6l6 6-6 6",
  stop: "M7 7h10v10H7z",
  pen: "M4 20l1-4L16 5l3 3L8 19z",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  check: "M5 12l5 5 9-10",
  warn: "M12 4L2.5 20h19zM12 10v5M12 17.5v.5",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
  out: "M10 5H5v14h5M9 12h11M16 8l4 4-4 4",
  help: "M9 9a3 3 0 1 1 4 2.8c-.8.4-1 1-1 2.2M12 17.5v.5",
  sliders: "M4 7h9M19 7h1M4 17h1M11 17h9M13 7a3 3 0 1 0 6 0 3 3 0 1 0-6 0M5 17a3 3 0 1 0 6 0 3 3 0 1 0-6 0",
  right: "M9 5l7 7-7 7",
};
export type IconName = keyof typeof ICONS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

interface ButtonProps {
  children?: ComponentChildren;
  icon?: IconName;
  label?: string;
  kind?: "" | "primary" | "plain" | "danger";
  type?: "button" | "submit";
  disabled?: boolean;
  class?: string;
  testid?: string;
  expanded?: boolean;
  onClick?: (event: MouseEvent) => void;
}

/** A button; one that shows an icon alone has a label. */
export function Button(props: ButtonProps) {
  const { children, icon, label, kind = "", type = "button", disabled = false } = props;
  const names = ["button", kind, children ? "" : "square", props.class ?? ""].filter(Boolean);
  return (
    <button
      type={type} class={names.join(" ")} disabled={disabled} onClick={props.onClick}
      aria-label={label} title={label} data-testid={props.testid}
      aria-expanded={props.expanded}
    >
      {icon && <Icon name={icon} />}
      {children && <span>{children}</span>}
    </button>
  );
}

interface FieldProps {
  label: string;
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "password" | "search" | "number" | "date";
  autocomplete?: string;
  required?: boolean;
  testid?: string;
  hint?: string;
  min?: number;
  max?: number;
  minLength?: number;
}

export function Field(props: FieldProps) {
  const id = useId();
  const { label, value, onInput, type = "text", required = false } = props;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id} type={type as "text"} value={value} required={required} data-testid={props.testid}
        autocomplete={(props.autocomplete ?? "off") as never} min={props.min} max={props.max}
        minLength={props.minLength} aria-describedby={props.hint ? `${id}-hint` : undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {props.hint && <p class="small" id={`${id}-hint`}>{props.hint}</p>}
    </div>
  );
}

interface ChoiceProps<T extends string> {
  legend: string;
  name: string;
  value: T;
  among: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
  hint?: string;
}

/** One of a few, all of which can be seen. */
export function Choice<T extends string>({ legend, name, value, among, onChange, hint }: ChoiceProps<T>) {
  return (
    <fieldset class="choice">
      <legend>{legend}</legend>
      <div class="segments">
        {among.map(([key, label]) => (
          <label key={key} class={key === value ? "chosen" : ""}>
            <input
              type="radio" name={name} value={key} checked={key === value}
              onChange={() => onChange(key)}
            />
            <span>{label}</span>
          </label>
        ))}
      </div>
      {hint && <p class="small">{hint}</p>}
    </fieldset>
  );
}

interface BoxProps {
  kind?: "" | "red" | "amber" | "green";
  title?: string;
  children: ComponentChildren;
  testid?: string;
  alert?: boolean;
}

/** Of the headings of notices: one below that of what they stand in. */
export const Level = createContext<"h2" | "h3">("h3");

/** A framed notice. */
export function Box({ kind = "", title, children, testid, alert = false }: BoxProps) {
  const Heading = useContext(Level);
  return (
    <div class={`box ${kind}`} data-testid={testid} role={alert ? "alert" : undefined}>
      {title && (
        <Heading>
          {(kind === "red" || kind === "amber") && <Icon name="warn" />} {title}
        </Heading>
      )}
      {children}
    </div>
  );
}

interface FailureProps {
  error: ApiError;
  children?: ComponentChildren;
  title?: string | undefined;
  /** Where it stands in a live region, or was spoken already. */
  quiet?: boolean;
}

/** What went wrong and what to do. */
export function Failure({ error, children, title, quiet = false }: FailureProps) {
  const { titles, other, gateway, reply, lost, todo, code } = w().errors;
  const text = { gateway, lost, reply: reply(error.message) }[error.code as "gateway"] ?? error.message;
  return (
    <Box kind="red" title={title ?? titles[error.code] ?? other} testid="failure" alert={!quiet}>
      <p>{text}</p>
      {error.hint && <p>{todo}: {error.hint}</p>}
      <p class="small">{code}: {error.code}</p>
      {children && <div class="row">{children}</div>}
    </Box>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  testid?: string;
  urgent?: boolean;
  /** Opens again when a person closes it by key: there is no going on without it. */
  stays?: boolean;
}

/** A window over the page; the browser keeps the focus in it and gives it back. */
export function Dialog({ title, onClose, children, testid, urgent = false, stays = false }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const drawn = useRef(true);
  useEffect(() => {
    const before = document.activeElement;
    ref.current?.showModal();
    return () => {
      drawn.current = false;
      // A browser gives it back from a dialog that is closed, not from one that is taken away.
      requestAnimationFrame(() => {
        if (document.activeElement === document.body && before instanceof HTMLElement) before.focus();
      });
    };
  }, []);
  const closed = (): void => {
    if (!drawn.current) return;
    if (stays) ref.current?.showModal();
    else onClose();
  };
  return (
    <dialog
      ref={ref} aria-labelledby={id} data-testid={testid} role={urgent ? "alertdialog" : undefined}
      onClose={closed}
    >
      <h2 id={id}>{title}</h2>
      <Level.Provider value="h3">{children}</Level.Provider>
    </dialog>
  );
}

interface TableProps {
  caption: string;
  head: string[];
  rows: ComponentChildren[][];
  hidden?: boolean;
  testid?: string;
}

/** A table whose first column names its rows; it scrolls by itself where it is too wide. */
export function Table({ caption, head, rows, hidden = false, testid }: TableProps) {
  return (
    <div class="scroller" role="region" aria-label={caption} tabIndex={0}>
      <table data-testid={testid}>
        <caption class={hidden ? "unseen" : ""}>{caption}</caption>
        <thead><tr>{head.map((name) => <th scope="col" key={name}>{name}</th>)}</tr></thead>
        <tbody>
          {rows.map(([first, ...rest], at) => (
            <tr key={at}>
              <th scope="row">{first}</th>
              {rest.map((cell, column) => <td key={column}>{cell}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Names and what they are, in two columns. */
export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
      ))}
    </dl>
  );
}

interface TabsProps<T extends string> {
  label: string;
  among: readonly (readonly [T, string])[];
  value: T;
  onChange: (value: T) => void;
  children: ComponentChildren;
}

/** Panels of which one is shown; arrow keys, Home and End go from tab to tab. */
export function Tabs<T extends string>({ label, among, value, onChange, children }: TabsProps<T>) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent): void => {
    const at = among.findIndex(([key]) => key === value);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = among.at(to % among.length);
    if (!next) return;
    onChange(next[0]);
    list.current?.querySelector<HTMLButtonElement>(`[data-tab="${next[0]}"]`)?.focus();
  };
  return (
    <>
      <div role="tablist" aria-label={label} class="tabs" ref={list} onKeyDown={move}>
        {among.map(([key, name]) => (
          <button
            key={key} type="button" role="tab" data-tab={key} id={`${id}-${key}`}
            aria-selected={key === value} aria-controls={`${id}-panel`}
            tabIndex={key === value ? 0 : -1} onClick={() => onChange(key)}
          >
            {name}
          </button>
        ))}
      </div>
      <div role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-${value}`} tabIndex={0}>
        {children}
      </div>
    </>
  );
}

/** Moves the focus to a heading when a view is opened, so that it is read from its top. */
export function useHeading(): RefObject<HTMLHeadingElement | null> {
  const ref = useRef<HTMLHeadingElement>(null);
  useEffect(() => ref.current?.focus(), []);
  return ref;
}
