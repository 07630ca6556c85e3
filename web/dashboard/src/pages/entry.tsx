// The ways in: set-up, sign-in, sign-up, accepting an invite.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState, type ReactNode } from 'react';
import { useQueryField } from '../address';
import { Refusal, api, ask, type Session } from '../api';
import { ownPath } from '../format';
import { queries, session, standingInvite } from '../queries';
import { tellTabs } from '../tabs';
import { token } from '../token';
import { Dialog, Form, Heading, Text, Trouble } from '../ui';

export function Alone({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="alone" id="main">
      <div>
        <Heading title={title} />
        <div className="card">{children}</div>
      </div>
    </main>
  );
}

function useField() {
  const [values, setValues] = useState<Record<string, string>>({});
  const value = (name: string) => values[name] ?? '';
  const set = (name: string) => (text: string): void => { setValues((old) => ({ ...old, [name]: text })); };
  return { value, set };
}

export const PASSWORD_HINT = 'At least 15 characters. Several unrelated words are good.';

function useEntry(send: () => Promise<Session>, next = '/developer') {
  const navigate = useNavigate();
  return useMutation({
    mutationFn: send,
    onSuccess: (opened) => {
      queries.setQueryData(session.queryKey, opened);
      tellTabs();
      void navigate({ to: next });
    },
  });
}

export function SetUp() {
  const [typed, setTyped] = useState('');
  const { value, set } = useField();
  const entry = useEntry(() =>
    ask(
      api.POST('/auth/setup', {
        body: {
          token: token || typed.trim(),
          organizationName: value('organizationName'),
          name: value('name'),
          email: value('email'),
          password: value('password'),
        },
      }),
    ),
  );
  const refusal = entry.error instanceof Refusal ? entry.error : undefined;
  return (
    <Alone title="Set up Flowyte">
      <p>This makes the first organization, with you as its owner. It can be done once.</p>
      <Form busy={entry.isPending} onSubmit={() => entry.mutate()}>
        {!token && (
          <Text
            label="Set-up token"
            value={typed}
            onChange={setTyped}
            required
            autoComplete="off"
            hint="The server printed a link with it when it started; it is also in the file setup-token of the data folder."
          />
        )}
        <Text label="Organization" value={value('organizationName')} onChange={set('organizationName')} error={refusal?.field('organizationName')} required autoFocus maxLength={100} autoComplete="organization" />
        <Text label="Your name" value={value('name')} onChange={set('name')} error={refusal?.field('name')} required maxLength={100} autoComplete="name" />
        <Text label="E-mail" type="email" value={value('email')} onChange={set('email')} error={refusal?.field('email')} required autoComplete="username" />
        <Text label="Password" type="password" value={value('password')} onChange={set('password')} error={refusal?.field('password')} hint={PASSWORD_HINT} required autoComplete="new-password" />
        <Trouble error={entry.error} />
        <button className="primary" disabled={entry.isPending}>
          {entry.isPending ? 'Setting up…' : 'Set up'}
        </button>
      </Form>
    </Alone>
  );
}

export function SignIn() {
  const next = useQueryField('next');
  const ended = useQueryField('ended') !== '';
  const { value, set } = useField();
  const entry = useEntry(
    () => ask(api.POST('/auth/login', { body: { email: value('email'), password: value('password') } })),
    ownPath(next),
  );
  return (
    <Alone title="Sign in">
      {ended && <p className="quiet">Your session has ended. Sign in to go on where you were.</p>}
      <Form busy={entry.isPending} onSubmit={() => entry.mutate()}>
        <Text label="E-mail" type="email" value={value('email')} onChange={set('email')} required autoFocus autoComplete="username" />
        <Text label="Password" type="password" value={value('password')} onChange={set('password')} required autoComplete="current-password" />
        <Trouble error={entry.error} />
        <button className="primary" disabled={entry.isPending}>
          {entry.isPending ? 'Signing in…' : 'Sign in'}
        </button>
      </Form>
      <p className="small quiet">
        Forgot your password? Ask an owner of your organization for a recovery link, or the operator of this server, who makes one with{' '}
        <code>flowyte users recovery-link</code>.
      </p>
      <p className="small quiet">
        New here? <Link to="/signup">Make an organization</Link>, where the operator allows it, or ask a member for an invite.
      </p>
    </Alone>
  );
}

/** Over the page where the session ended. The same person in the same organization goes on with it, text and all. */
export function SignInAgain({ as, onBack }: { as: Session; onBack: () => void }) {
  const navigate = useNavigate();
  const [email, setEmail] = useState(as.user.email);
  const [password, setPassword] = useState('');
  const leave = (next?: Session) => {
    queries.clear();
    if (next) queries.setQueryData(session.queryKey, next);
    tellTabs();
    void navigate({ to: next ? '/developer' : '/signin', ignoreBlocker: true });
  };
  const entry = useMutation({
    mutationFn: async () => {
      const next = await ask(api.POST('/auth/login', { body: { email, password } }));
      const elsewhere = next.user.id === as.user.id && next.organization.id !== as.organization.id;
      const member = next.organizations.some((it) => it.id === as.organization.id);
      return elsewhere && member ? ask(api.POST('/auth/session/organization', { body: { organizationId: as.organization.id } })) : next;
    },
    onSuccess: (next) => {
      if (next.user.id !== as.user.id || next.organization.id !== as.organization.id) {
        leave(next);
        return;
      }
      queries.setQueryData(session.queryKey, next);
      tellTabs();
      onBack();
    },
  });
  return (
    <Dialog title="Your session has ended" onClose={onBack} firm light>
      <Form busy={entry.isPending} onSubmit={() => entry.mutate()}>
        <p>Sign in to go on where you were. What you typed on this page is still there.</p>
        <Text label="E-mail" type="email" value={email} onChange={setEmail} required autoComplete="username" />
        <Text label="Password" type="password" value={password} onChange={setPassword} required autoComplete="current-password" />
        <Trouble error={entry.error} />
        <div className="actions">
          <button type="button" onClick={() => leave()}>
            Leave the page
          </button>
          <button type="submit" className="primary" disabled={entry.isPending}>
            {entry.isPending ? 'Signing in…' : 'Sign in'}
          </button>
        </div>
      </Form>
    </Dialog>
  );
}

export function SignUp() {
  const { value, set } = useField();
  const entry = useEntry(() =>
    ask(
      api.POST('/auth/signup', {
        body: { organizationName: value('organizationName'), name: value('name'), email: value('email'), password: value('password') },
      }),
    ),
  );
  const refusal = entry.error instanceof Refusal ? entry.error : undefined;
  return (
    <Alone title="Make an organization">
      <Form busy={entry.isPending} onSubmit={() => entry.mutate()}>
        <Text label="Organization" value={value('organizationName')} onChange={set('organizationName')} error={refusal?.field('organizationName')} required autoFocus maxLength={100} autoComplete="organization" />
        <Text label="Your name" value={value('name')} onChange={set('name')} error={refusal?.field('name')} required maxLength={100} autoComplete="name" />
        <Text label="E-mail" type="email" value={value('email')} onChange={set('email')} error={refusal?.field('email')} required autoComplete="username" />
        <Text label="Password" type="password" value={value('password')} onChange={set('password')} error={refusal?.field('password')} hint={PASSWORD_HINT} required autoComplete="new-password" />
        <Trouble error={entry.error} />
        <button className="primary" disabled={entry.isPending}>
          {entry.isPending ? 'Signing up…' : 'Sign up'}
        </button>
      </Form>
      <p className="small quiet">
        Already here? <Link to="/signin">Sign in</Link>.
      </p>
    </Alone>
  );
}

export function Invite() {
  const [typed, setTyped] = useState('');
  const [known, setKnown] = useState(false);
  const { value, set } = useField();
  const entry = useEntry(() => {
    const name = known ? {} : { name: value('name') };
    return ask(api.POST('/auth/invites/accept', { body: { token: token || typed.trim(), password: value('password'), ...name } }));
  });
  const refusal = entry.error instanceof Refusal ? entry.error : undefined;
  const invite = useQuery({ ...standingInvite(token), enabled: token !== '' && !entry.isSuccess });
  return (
    <Alone title="Accept an invite">
      {invite.data && (
        <p>
          {invite.data.invitedBy.name} invites <strong>{invite.data.email}</strong> to <strong>{invite.data.organization.name}</strong> as {invite.data.role}.
        </p>
      )}
      <Trouble error={invite.error} />
      <Form busy={entry.isPending} onSubmit={() => entry.mutate()}>
        {!token && <Text label="Invite token" value={typed} onChange={setTyped} required autoComplete="off" hint="The part of your link behind #token=" />}
        <div className="check">
          <input type="checkbox" id="known" checked={known} onChange={(event) => setKnown(event.target.checked)} />
          <label htmlFor="known">I have an account here with this e-mail address</label>
        </div>
        {!known && <Text label="Your name" value={value('name')} onChange={set('name')} error={refusal?.field('name')} required maxLength={100} autoComplete="name" />}
        <Text
          label={known ? 'Your password' : 'Choose a password'}
          type="password"
          value={value('password')}
          onChange={set('password')}
          error={refusal?.field('password')}
          hint={known ? undefined : PASSWORD_HINT}
          required
          autoComplete={known ? 'current-password' : 'new-password'}
        />
        <Trouble error={entry.error} />
        <button className="primary" disabled={entry.isPending}>
          {entry.isPending ? 'Joining…' : 'Join'}
        </button>
      </Form>
    </Alone>
  );
}
