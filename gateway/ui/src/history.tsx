// The person's conversations: begin, search, open, rename, delete, take away.

import { useEffect, useRef, useState } from "preact/hooks";
import { call, shown, type ApiError } from "./api";
import { focusQuestion } from "./composer";
import { say } from "./live";
import { Button, Dialog, Failure, Field, Icon } from "./parts";
import { go } from "./route";
import { download } from "./text";
import {
  busy, conversations, current, fresh, listError, refreshList, remove, rename, sought,
} from "./thread";
import type { Conversation } from "./types";
import { day, w } from "./words";

const DAY_MS = 86_400_000;
type Open = { what: "rename" | "remove"; of: Conversation } | null;

export function History({ onChosen }: { onChosen: () => void }) {
  const words = w().history;
  const [open, setOpen] = useState<Open>(null);
  useEffect(() => {
    const timer = setTimeout(() => void refreshList(), sought.value ? 200 : 0);
    return () => clearTimeout(timer);
  }, [sought.value]);
  useEffect(() => {
    const look = (): void => void (document.hidden || refreshList());
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  return (
    <>
      <Button icon="plus" kind="primary" class="wide" testid="new" onClick={() => {
        fresh();
        go("#/");
        onChosen();
        focusQuestion();
      }}>{words.new}</Button>
      <div class="search">
        <Icon name="search" />
        <input
          type="search" aria-label={words.search} placeholder={words.searchShort} value={sought.value}
          maxLength={200} data-testid="search" onInput={(event) => (sought.value = event.currentTarget.value)}
        />
      </div>
      {listError.value && <Failure error={listError.value} />}
      {!conversations.value.length && !listError.value && (
        <p class="small">{sought.value ? words.noneFound : words.empty}</p>
      )}
      {grouped(conversations.value).map(([name, items]) => (
        <section key={name}>
          <h3 class="small">{name}</h3>
          <ul class="conversations">
            {items.map((item) => <Item key={item.id} item={item} onChosen={onChosen} onOpen={setOpen} />)}
          </ul>
        </section>
      ))}
      {open?.what === "rename" && <Rename of={open.of} onClose={() => setOpen(null)} />}
      {open?.what === "remove" && <Remove of={open.of} onClose={() => setOpen(null)} />}
    </>
  );
}

function focusNew(): void {
  document.querySelector<HTMLElement>('[data-testid="new"]')?.focus();
}

function grouped(items: Conversation[]): [string, Conversation[]][] {
  const words = w().history;
  const now = Date.now();
  const today = new Date().setHours(0, 0, 0, 0);
  const groups: [string, Conversation[]][] = [
    [words.today, items.filter((item) => item.updated >= today)],
    [words.week, items.filter((item) => item.updated < today && item.updated >= now - 7 * DAY_MS)],
    [words.older, items.filter((item) => item.updated < today && item.updated < now - 7 * DAY_MS)],
  ];
  return groups.filter(([, found]) => found.length);
}

interface ItemProps {
  item: Conversation;
  onChosen: () => void;
  onOpen: (open: Open) => void;
}

function Item({ item, onChosen, onOpen }: ItemProps) {
  const words = w().history;
  const title = item.title || words.untitled;
  const here = current.value === item.id;
  return (
    <li class={here ? "current" : ""} data-testid="conversation">
      <a href={`#/c/${item.id}`} aria-current={here ? "page" : undefined} onClick={onChosen}>
        <span class="conversation-title">{title}</span>
        <span class="small">{day(item.updated)} · {busy.value.has(item.id) ? words.asking : words.turns(item.turns)}</span>
      </a>
      <span class="item-buttons">
        <Button icon="pen" kind="plain" label={words.renameOf(title)} onClick={() => onOpen({ what: "rename", of: item })} />
        <Button icon="bin" kind="plain" label={words.removeOf(title)} onClick={() => onOpen({ what: "remove", of: item })} />
      </span>
    </li>
  );
}

function Rename({ of, onClose }: { of: Conversation; onClose: () => void }) {
  const words = w().history;
  const [title, setTitle] = useState(of.title);
  const [error, setError] = useState<ApiError | null>(null);
  return (
    <Dialog title={words.rename} onClose={onClose} testid="rename-dialog">
      <form onSubmit={(event) => {
        event.preventDefault();
        rename(of.id, title.trim()).then(onClose, (caught) => setError(shown(caught)));
      }}>
        <Field label={words.title} value={title} onInput={setTitle} required testid="rename-title" />
        {error && <Failure error={error} />}
        <div class="row">
          <Button type="submit" kind="primary" testid="rename-save">{w().save}</Button>
          <Button onClick={onClose}>{w().cancel}</Button>
        </div>
      </form>
    </Dialog>
  );
}

function Remove({ of, onClose }: { of: Conversation; onClose: () => void }) {
  const words = w().history;
  const [error, setError] = useState<ApiError | null>(null);
  const gone = (): void => {
    say(words.removed);
    onClose();
    // What had the focus is gone with its conversation.
    requestAnimationFrame(focusNew);
  };
  return (
    <Dialog title={words.sure} onClose={onClose} testid="remove-dialog" urgent>
      <p>{words.sureText(of.title || words.untitled)}</p>
      {error && <Failure error={error} />}
      <div class="row">
        <Button kind="danger" testid="remove-sure" onClick={() => void remove(of.id).then(gone, (caught) => setError(shown(caught)))}>{words.remove}</Button>
        <Button onClick={onClose}>{w().cancel}</Button>
      </div>
    </Dialog>
  );
}

/** The conversation on the page as a file, or as pages for a printer. */
export function TakeAway() {
  const words = w().history;
  const [error, setError] = useState<ApiError | null>(null);
  const id = current.value;
  if (!id) return null;
  const menu = useRef<HTMLDetailsElement>(null);
  const close = (): void => {
    if (menu.current) menu.current.open = false;
    menu.current?.querySelector("summary")?.focus();
  };
  const save = async (path: string, name: string, type: string): Promise<void> => {
    close();
    try {
      download(name, await (await call(path)).text(), type);
      setError(null);
    } catch (caught) {
      setError(shown(caught));
    }
  };
  return (
    <details ref={menu} class="take-away" data-testid="take-away" onKeyDown={(event) => {
      if (event.key !== "Escape" || !event.currentTarget.open) return;
      event.stopPropagation();
      close();
    }}>
      <summary>{words.export}</summary>
      <div class="menu">
        <Button kind="plain" testid="export-markdown" onClick={() => void save(`v1/conversations/${id}/export`, "conversation.md", "text/markdown")}>{words.markdown}</Button>
        <Button kind="plain" testid="export-json" onClick={() => void save(`v1/conversations/${id}`, "conversation.json", "application/json")}>{words.json}</Button>
        <Button kind="plain" testid="print" onClick={() => {
          close();
          print();
        }}>{words.print}</Button>
      </div>
      {error && <Failure error={error} />}
    </details>
  );
}
