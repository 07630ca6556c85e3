// The few building blocks of every page. Dialogs are the browser's own: focus, Escape and the page behind come with them.
import { useMutation } from '@tanstack/react-query';
import { useBlocker } from '@tanstack/react-router';
import { useEffect, useId, useLayoutEffect, useRef, useState, useSyncExternalStore, type CSSProperties, type ReactNode, type SubmitEvent } from 'react';
import { Refusal, type Schemas } from './api';
import { ago, asShown, count, date, full } from './format';
import { hold } from './held';

const everyHalfMinute = (act: () => void) => {
  const timer = setInterval(act, 30_000);
  return () => {
    clearInterval(timer);
  };
};

/** A date and how far it is; it stays true while it is looked at. */
export function Time({ at, none = 'never' }: { at: string | null | undefined; none?: string }) {
  useSyncExternalStore(everyHalfMinute, () => Math.floor(Date.now() / 30_000));
  if (!at) return <span className="quiet">{none}</span>;
  return (
    <time dateTime={at} title={full(at)}>
      <span>{date(at)}</span> <span className="quiet small">({ago(at)})</span>
    </time>
  );
}

export function Badge({ tone, children }: { tone: 'good' | 'bad' | 'warn' | 'plain'; children: ReactNode }) {
  return <span className={`badge ${tone}`}>{children}</span>;
}

export function Status({ of }: { of: 'active' | 'expired' | 'revoked' }) {
  return <Badge tone={of === 'active' ? 'good' : of === 'expired' ? 'warn' : 'bad'}>{of}</Badge>;
}

export function Notice({ tone, children }: { tone: 'bad' | 'good' | 'warn' | 'plain'; children: ReactNode }) {
  return (
    <div className={`notice ${tone}`} role={tone === 'bad' ? 'alert' : 'status'}>
      {children}
    </div>
  );
}

/** What can fail and be tried again: a query, or a change with what it was asked for. */
type Attempt = { error: unknown } & ({ refetch: () => unknown; isFetching: boolean } | { mutate: (again: never) => void; variables: unknown; isPending: boolean });

/** The first of several attempts that failed, where it failed, with another try. */
export function Failure({ of }: { of: Attempt[] }) {
  const failed = of.find((it) => it.error);
  if (!failed) return null;
  const busy = 'refetch' in failed ? failed.isFetching : failed.isPending;
  return (
    <Trouble
      error={failed.error}
      busy={busy}
      again={() => {
        if ('refetch' in failed) failed.refetch();
        else failed.mutate(failed.variables as never);
      }}
    />
  );
}

/** What went wrong, in the server's words, with the number that finds it in the log. `again`: another try, where no form offers it. */
export function Trouble({ error, again, busy = false }: { error: unknown; again?: () => void; busy?: boolean }) {
  if (!error) return null;
  const refusal = error instanceof Refusal ? error.problem : undefined;
  return (
    <Notice tone="bad">
      {refusal?.errors ? 'Some fields need another look:' : error instanceof Error ? error.message : 'Something went wrong.'}
      {refusal?.errors?.map((it) => (
        <div key={it.field + it.message}>
          <code>{it.field.replace(/^\//, '')}</code> {it.message}
        </div>
      ))}
      {refusal?.requestId && <div className="quiet small">Request {refusal.requestId}</div>}
      {again && (
        <div className="actions">
          <button type="button" disabled={busy} onClick={again}>
            {busy ? 'Trying…' : 'Try again'}
          </button>
        </div>
      )}
    </Notice>
  );
}

export function Loading({ rows = 3 }: { rows?: number }) {
  return (
    <div className="loading" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, row) => (
        <div key={row} className="bone" />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p>
        <strong>{title}</strong>
      </p>
      {children}
    </div>
  );
}

type TableProps = { label: string; columns: string[]; actions?: boolean; children: ReactNode };

/**
 * Rows under headings; where there is no room for columns, each row is a block whose cells name their column.
 * `actions`: a last column of buttons.
 */
export function Table({ label, columns, actions = false, children }: TableProps) {
  const names = Object.fromEntries(columns.map((it, index) => [`--column-${index + 1}`, JSON.stringify(it)])) as CSSProperties;
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={label}>
      <table style={names}>
        <thead>
          <tr>
            {columns.map((it) => (
              <th key={it} scope="col">
                {it}
              </th>
            ))}
            {actions && (
              <th scope="col">
                <span className="unseen">Actions</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

type FieldProps = {
  label: string;
  hint?: ReactNode;
  error?: string | undefined;
  children: (props: { id: string; 'aria-describedby': string | undefined; 'aria-invalid': boolean }) => ReactNode;
};

/** A label, its control, and what is wrong with what stands in it. */
export function Field({ label, hint, error, children }: FieldProps) {
  const id = useId();
  const about = `${id}-about`;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children({ id, 'aria-describedby': error || hint ? about : undefined, 'aria-invalid': Boolean(error) })}
      {(error || hint) && (
        <div id={about} className={error ? 'error small' : 'quiet small'} role={error ? 'alert' : undefined}>
          {error ?? hint}
        </div>
      )}
    </div>
  );
}

type TextProps = {
  label: string;
  value: string;
  onChange: (value: string) => void;
  hint?: ReactNode;
  error?: string | undefined;
  type?: string;
  autoComplete?: string;
  required?: boolean;
  autoFocus?: boolean;
  maxLength?: number;
  placeholder?: string;
};

export function Text({ label, hint, error, value, onChange, ...rest }: TextProps) {
  return (
    <Field label={label} hint={hint} error={error}>
      {(props) => <input {...props} {...rest} value={value} onChange={(event) => onChange(event.target.value)} />}
    </Field>
  );
}

/** Looks for what is typed, as soon as typing pauses. `value`: what is looked for now, which Back may change. */
export function SearchField({ label = 'Search', value, placeholder, onSearch }: { label?: string; value: string; placeholder: string; onSearch: (text: string) => void }) {
  const [typed, setTyped] = useState(value);
  const [sent, setSent] = useState(value);
  const [seen, setSeen] = useState(value);
  const timer = useRef<number>(undefined);
  if (value !== seen) {
    setSeen(value);
    if (value !== sent) {
      setTyped(value);
      setSent(value);
    }
  }
  return (
    <Field label={label}>
      {(props) => (
        <input
          {...props}
          type="search"
          value={typed}
          maxLength={200}
          placeholder={placeholder}
          onChange={(event) => {
            const text = event.target.value;
            setTyped(text);
            window.clearTimeout(timer.current);
            timer.current = window.setTimeout(() => {
              setSent(text.trim());
              onSearch(text.trim());
            }, 300);
          }}
        />
      )}
    </Field>
  );
}

type ChoiceProps = { label: string; value: string; onChange: (value: string) => void; options: [value: string, text: string][] };

export function Choice({ label, value, onChange, options }: ChoiceProps) {
  return (
    <Field label={label}>
      {(props) => (
        <select {...props} value={value} onChange={(event) => { onChange(event.target.value); }}>
          {options.map(([it, text]) => (
            <option key={it} value={it}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

type MoreProps = { of: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown }; what: string };

/** The next rows of a list, below those that are there. */
export function More({ of, what }: MoreProps) {
  if (!of.hasNextPage) return null;
  return (
    <div className="actions">
      <button type="button" disabled={of.isFetchingNextPage} onClick={() => { of.fetchNextPage(); }}>
        {of.isFetchingNextPage ? 'Loading…' : what}
      </button>
    </div>
  );
}

/** A form that is sent once at a time. */
export function Form({ busy, onSubmit, children }: { busy: boolean; onSubmit: () => void; children: ReactNode }) {
  return (
    <form
      className="form"
      noValidate={false}
      onSubmit={(event: SubmitEvent) => {
        event.preventDefault();
        if (!busy) onSubmit();
      }}
    >
      {children}
    </form>
  );
}

type QuestionProps = { title: string; children: ReactNode; stay: string; leave: string; onStay: () => void; onLeave: () => void };

/** Asks before something is lost. Escape stays. */
export function Question({ title, children, stay, leave, onStay, onLeave }: QuestionProps) {
  return (
    <Dialog title={title} onClose={onStay} light>
      <p>{children}</p>
      <div className="actions">
        <button type="button" className="primary" onClick={onStay}>
          {stay}
        </button>
        <button type="button" className="danger" onClick={onLeave}>
          {leave}
        </button>
      </div>
    </Dialog>
  );
}

/** While it is there, the page is left by link, Back, reload or closing only after a question, and follows no other tab. */
export function Guard({ title, stay, leave, children }: { title: string; stay: string; leave: string; children: ReactNode }) {
  useEffect(() => {
    const release = hold();
    return () => {
      release();
    };
  }, []);
  const blocked = useBlocker({ shouldBlockFn: ({ current, next }) => current.pathname !== next.pathname, enableBeforeUnload: true, withResolver: true });
  if (blocked.status !== 'blocked') return null;
  return (
    <Question title={title} stay={stay} leave={leave} onStay={blocked.reset} onLeave={blocked.proceed}>
      {children}
    </Question>
  );
}

/** Guards what somebody typed and did not save. */
export function Unsaved() {
  return (
    <Guard title="Leave without saving?" stay="Stay" leave="Leave without saving">
      What you typed here is not saved.
    </Guard>
  );
}

type DialogProps = {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** Can't be left but by the button inside. */
  firm?: boolean;
  /** Nothing typed into it is worth a question before it closes. */
  light?: boolean;
  wide?: boolean;
};

/** Where somebody begins who opens a dialog: its first field, else its first button below the title. */
function beginning(of: HTMLDialogElement): HTMLElement | null {
  return of.querySelector<HTMLElement>(':is(input, select, textarea):not(:disabled)') ?? of.querySelector<HTMLElement>('.dialog > :not(header) button, .dialog > button');
}

/** The dialogs that are open, the topmost last: Escape is for that one. */
const open: HTMLDialogElement[] = [];

export function Dialog({ title, onClose, children, firm = false, light = false, wide = false }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  const [typed, setTyped] = useState(false);
  const [asking, setAsking] = useState(false);
  const kept = typed && !light;
  useLayoutEffect(() => {
    const it = dialog.current;
    if (!it) return;
    open.push(it);
    it.showModal();
    beginning(it)?.focus();
    // The browser gives the focus back to what had it, if nothing above is open any more.
    return () => {
      for (const inner of open.filter((one) => it.contains(one)).reverse()) inner.close();
      open.splice(open.indexOf(it), 1);
    };
  }, []);
  const leave = () => {
    if (kept) setAsking(true);
    else if (!firm) onClose();
  };
  // Escape is ours: a browser that is asked twice closes a dialog whatever the page says, and whatever is open below it.
  useEffect(() => {
    const escape = (event: KeyboardEvent) => {
      if (event.key !== 'Escape' || event.isComposing || open.at(-1) !== dialog.current) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      leave();
    };
    document.addEventListener('keydown', escape);
    return () => {
      document.removeEventListener('keydown', escape);
    };
  });
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      className={wide ? 'wide' : undefined}
      closedby="none"
      onInput={() => {
        setTyped(true);
      }}
      onCancel={(event) => {
        // A file field that is left without a file says so in an event of the same name.
        if (event.target === event.currentTarget) event.preventDefault();
      }}
      onClose={(event) => {
        // A browser that closes it all the same finds it open again: what is on the page is open.
        if (event.target === event.currentTarget && !event.currentTarget.open && event.currentTarget.isConnected) event.currentTarget.showModal();
      }}
    >
      <div className="dialog">
        <header>
          <h2 id={heading}>{title}</h2>
          {!firm && (
            <button type="button" className="plain" aria-label="Close" onClick={leave}>
              ✕
            </button>
          )}
        </header>
        {children}
      </div>
      {kept && !firm && <Unsaved />}
      {asking && (
        <Question
          title="Discard what you typed?"
          stay="Go on writing"
          leave="Discard"
          onStay={() => {
            setAsking(false);
          }}
          onLeave={onClose}
        >
          It is not saved.
        </Question>
      )}
    </dialog>
  );
}

/** What is shown this one time: it stays until somebody says that it was copied. */
export function ShownOnce({ title, what, onClose, children }: { title: string; what: string; onClose: () => void; children: ReactNode }) {
  return (
    <Dialog title={title} onClose={onClose} firm wide light>
      {children}
      <div className="actions">
        <button type="button" className="primary" onClick={onClose}>
          I have copied it
        </button>
      </div>
      <Guard title={`Leave without ${what}?`} stay="Stay" leave="Leave without it">
        It is shown this once, and nobody can show it again.
      </Guard>
    </Dialog>
  );
}

/** A text to take along, with a button that says when it did. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [state, setState] = useState<'' | 'copied' | 'failed'>('');
  useEffect(() => {
    if (!state) return;
    const timer = setTimeout(() => {
      setState('');
    }, 2500);
    return () => {
      clearTimeout(timer);
    };
  }, [state]);
  const copy = () =>
    navigator.clipboard.writeText(text).then(
      () => setState('copied'),
      () => setState('failed'),
    );
  return (
    <div className="copy">
      <code tabIndex={0} aria-label={label}>
        {text}
      </code>
      <button type="button" onClick={() => void copy()}>
        {state === 'copied' ? 'Copied' : state === 'failed' ? 'Select it by hand' : 'Copy'}
      </button>
      <span className="unseen" role="status">
        {state === 'copied' ? `${label} copied` : ''}
      </span>
    </div>
  );
}

type ActionsProps = {
  /** What the form does. */
  action: string;
  busy: boolean;
  /** Something still stands in the way. */
  blocked?: boolean;
  danger?: boolean;
  onClose: () => void;
};

/** The two ways out of a dialog's form. */
export function Actions({ action, busy, blocked = false, danger = false, onClose }: ActionsProps) {
  return (
    <div className="actions">
      <button type="button" onClick={onClose}>
        Cancel
      </button>
      <button type="submit" className={danger ? 'danger' : 'primary'} disabled={busy || blocked}>
        {busy ? 'Working…' : action}
      </button>
    </div>
  );
}

type ConfirmProps<T> = {
  title: string;
  children: ReactNode;
  action: string;
  /** What must be typed to go on. */
  type?: string;
  /** It takes nothing away. */
  harmless?: boolean;
  act: () => Promise<T>;
  onDone?: (done: T) => void;
  onClose: () => void;
};

/** Says what will happen before something that can't be undone, does it, and closes. */
export function Confirm<T>({ title, children, action, type, harmless = false, act, onDone, onClose }: ConfirmProps<T>) {
  const [typed, setTyped] = useState('');
  const done = useMutation({
    mutationFn: act,
    onSuccess: (it) => {
      onDone?.(it);
      onClose();
    },
  });
  return (
    <Dialog title={title} onClose={onClose} light>
      <Form busy={done.isPending} onSubmit={() => done.mutate()}>
        <div>{children}</div>
        {type !== undefined && <Text label={`Type ${asShown(type)} to go on`} value={typed} onChange={setTyped} autoComplete="off" />}
        <Trouble error={done.error} />
        <Actions danger={!harmless} action={action} busy={done.isPending} blocked={type !== undefined && asShown(typed) !== asShown(type)} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

/** What a revocation answered: no node accepts the key any more. */
export function Revoked({ effective }: { effective: Schemas['Effective'] | undefined }) {
  if (!effective) return null;
  return (
    <Notice tone="good">
      Revoked. {effective.nodes === 1 ? 'The one node' : `All ${count(effective.nodes, 'node')}`} confirmed within {effective.waitedMs} ms; the key is accepted nowhere any more.
    </Notice>
  );
}

export function Heading({ title, children }: { title: string; children?: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Flowyte`;
  }, [title]);
  return (
    <div className="heading">
      <h1>{title}</h1>
      <div className="actions">{children}</div>
    </div>
  );
}
