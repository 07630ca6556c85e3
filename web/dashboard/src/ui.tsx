// The few building blocks of every page. Dialogs are the browser's own: focus, Escape and the page behind come with them.
import { useMutation } from '@tanstack/react-query';
import { useEffect, useId, useRef, useState, type ReactNode, type SubmitEvent } from 'react';
import { Refusal, type Schemas } from './api';
import { ago, full } from './format';

export function Time({ at, none = 'never' }: { at: string | null | undefined; none?: string }) {
  if (!at) return <span className="quiet">{none}</span>;
  return (
    <time dateTime={at} title={full(at)}>
      {ago(at)}
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

/** What went wrong, in the server's words, with the number that finds it in the log. */
export function Trouble({ error }: { error: unknown }) {
  if (!error) return null;
  const refusal = error instanceof Refusal ? error.problem : undefined;
  return (
    <Notice tone="bad">
      {refusal?.errors ? 'Not everything in the form can be taken:' : error instanceof Error ? error.message : 'Something went wrong.'}
      {refusal?.errors?.map((it) => (
        <div key={it.field + it.message}>
          <code>{it.field}</code> {it.message}
        </div>
      ))}
      {refusal?.requestId && <div className="quiet small">Request {refusal.requestId}</div>}
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

/** Rows under headings; scrolls sideways by itself, by keyboard too. `actions`: a last column of buttons. */
export function Table({ label, columns, actions = false, children }: TableProps) {
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={label}>
      <table>
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

type DialogProps = {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** Can't be left by Escape or by a click beside it. */
  firm?: boolean;
  wide?: boolean;
};

export function Dialog({ title, onClose, children, firm = false, wide = false }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const it = dialog.current;
    if (it && !it.open) it.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      className={wide ? 'wide' : undefined}
      onCancel={(event) => {
        event.preventDefault();
        if (!firm) onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current && !firm) onClose();
      }}
    >
      <div className="dialog">
        <header>
          <h2 id={heading}>{title}</h2>
          {!firm && (
            <button type="button" className="plain" aria-label="Close" onClick={onClose}>
              ✕
            </button>
          )}
        </header>
        {children}
      </div>
    </dialog>
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

/** The only way out of a dialog whose content is shown once. */
export function Copied({ onClose }: { onClose: () => void }) {
  return (
    <div className="actions">
      <button type="button" className="primary" onClick={onClose}>
        I have copied it
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
  act: () => Promise<T>;
  onDone: (done: T) => void;
  onClose: () => void;
};

/** Asks once more before something that can't be undone, does it, and closes. */
export function Confirm<T>({ title, children, action, type, act, onDone, onClose }: ConfirmProps<T>) {
  const [typed, setTyped] = useState('');
  const done = useMutation({
    mutationFn: act,
    onSuccess: (it) => {
      onDone(it);
      onClose();
    },
  });
  return (
    <Dialog title={title} onClose={onClose}>
      <Form busy={done.isPending} onSubmit={() => done.mutate()}>
        <div>{children}</div>
        {type !== undefined && <Text label={`Type ${type} to go on`} value={typed} onChange={setTyped} autoComplete="off" autoFocus />}
        <Trouble error={done.error} />
        <Actions danger action={action} busy={done.isPending} blocked={type !== undefined && typed !== type} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

/** What a revocation answered: no node accepts the key any more. */
export function Revoked({ effective }: { effective: Schemas['Effective'] | undefined }) {
  if (!effective) return null;
  return (
    <Notice tone="good">
      Revoked. {effective.nodes === 1 ? 'The one node' : `All ${effective.nodes} nodes`} confirmed within {effective.waitedMs} ms; the key is accepted nowhere any more.
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
