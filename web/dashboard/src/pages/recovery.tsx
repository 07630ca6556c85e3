// Ways back in for those who lost their password: the page behind a recovery link, and the dialog in which an owner makes one.
import { useMutation } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { Refusal, api, ask, type Schemas } from '../api';
import { queries, session } from '../queries';
import { tellTabs } from '../tabs';
import { token } from '../token';
import { Actions, Copy, Dialog, Form, Notice, ShownOnce, Text, Time, Trouble } from '../ui';
import { Alone, PASSWORD_HINT } from './entry';

export function Recover() {
  const navigate = useNavigate();
  const [typed, setTyped] = useState('');
  const [password, setPassword] = useState('');
  const entry = useMutation({
    mutationFn: () => ask(api.POST('/auth/recovery', { body: { token: token || typed.trim(), password } })),
    onSuccess: (opened) => {
      queries.clear();
      queries.setQueryData(session.queryKey, opened);
      tellTabs();
      void navigate({ to: '/developer' });
    },
  });
  return (
    <Alone title="Set a new password">
      <p>The link works once. Every session that you have open anywhere ends, and you are signed in here.</p>
      <Form busy={entry.isPending} onSubmit={() => entry.mutate()}>
        {!token && <Text label="Recovery token" value={typed} onChange={setTyped} required autoComplete="off" hint="The part of your link behind #token=" />}
        <Text
          label="New password"
          type="password"
          value={password}
          onChange={setPassword}
          error={entry.error instanceof Refusal ? entry.error.field('password') : undefined}
          hint={PASSWORD_HINT}
          required
          autoFocus
          autoComplete="new-password"
        />
        <Trouble error={entry.error} />
        <button className="primary" disabled={entry.isPending}>
          {entry.isPending ? 'Setting it…' : 'Set the password'}
        </button>
      </Form>
      <p className="small quiet">
        You know your password? <Link to="/signin">Sign in</Link>.
      </p>
    </Alone>
  );
}

/** Makes a link for a member, and shows it once. */
export function RecoveryLink({ of, onClose }: { of: Schemas['Member']; onClose: () => void }) {
  const make = useMutation({ mutationFn: () => ask(api.POST('/members/{id}/recovery-link', { params: { path: { id: of.id } } })) });
  if (make.data) {
    return (
      <ShownOnce title={`Recovery link for ${of.name}`} what="the link" onClose={onClose}>
        <Notice tone="warn">
          Hand this link over yourself, to {of.name} and nobody else: whoever opens it signs in as them. It is shown once, works once, and ends <Time at={make.data.expiresAt} />.
        </Notice>
        <Copy label="Recovery link" text={make.data.link} />
      </ShownOnce>
    );
  }
  return (
    <Dialog title={`Recovery link for ${of.name}`} onClose={onClose}>
      <Form busy={make.isPending} onSubmit={() => make.mutate()}>
        <p>For a member who lost their password. With the link they set a new one within 30 minutes, and every session they have open ends. The audit log says that you made it.</p>
        <Trouble error={make.error} />
        <Actions action="Make the link" busy={make.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
