// The page: sign in, choose a room, write, and talk in its voice channel.

import { useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { io } from 'socket.io-client';

import { Voice } from './voice.js';

async function fetchIce() {
  const response = await fetch('/api/ice');
  if (!response.ok) throw new Error('No ICE servers: is Turnwell running?');
  return response.json();
}

function App() {
  const [session, setSession] = useState(null); // { name, rooms }
  return session ? <Rooms {...session} /> : <SignIn done={setSession} />;
}

function SignIn({ done }) {
  const [problem, setProblem] = useState('');
  async function submit(event) {
    event.preventDefault();
    const body = JSON.stringify({ name: new FormData(event.target).get('name').trim() });
    const response = await fetch('/api/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    const answer = await response.json();
    if (response.ok) done(answer);
    else setProblem(answer.problem);
  }
  return (
    <main>
      <h1>Chat rooms</h1>
      <form className="card row" onSubmit={submit}>
        <label className="grow">Name <input name="name" className="grow" maxLength="32" autoComplete="username" required autoFocus /></label>
        <button className="primary">Come in</button>
      </form>
      <p role="alert">{problem}</p>
    </main>
  );
}

function Rooms({ name, rooms }) {
  const [room, setRoom] = useState(rooms[0]);
  const [messages, setMessages] = useState([]);
  const [people, setPeople] = useState([]);
  const [inVoice, setInVoice] = useState([]); // [{ name, peer }]
  const [online, setOnline] = useState(false);
  const [socket] = useState(() => io({ autoConnect: false }));

  useEffect(() => {
    socket.on('message', (message) => setMessages((all) => [...all, message]));
    socket.on('people', setPeople);
    socket.on('voice', setInVoice);
    socket.on('disconnect', () => setOnline(false));
    socket.connect();
    return () => socket.disconnect();
  }, [socket]);

  // On every connection anew: while we were away the server forgot where we were, and others went on writing.
  useEffect(() => {
    const enter = () => socket.emit('enter', room, (state) => {
      setOnline(true);
      setMessages(state.history);
      setPeople(state.people);
      setInVoice(state.voice);
    });
    socket.on('connect', enter);
    if (socket.connected) enter();
    return () => socket.off('connect', enter);
  }, [socket, room]);

  return (
    <main className="rooms">
      <header className="row">
        <h1 className="grow">{room}</h1>
        <span role="status" className="soft">{online ? `You are ${name}` : 'Connecting …'}</span>
      </header>
      <div className="side">
        <nav className="card" aria-label="Rooms">
          <ul className="plain">
            {rooms.map((each) => (
              <li key={each}><button aria-current={each === room || undefined} aria-pressed={each === room} onClick={() => setRoom(each)}>{each}</button></li>
            ))}
          </ul>
        </nav>
        <VoiceChannel key={room} socket={socket} online={online} members={inVoice} />
        <section className="card" aria-labelledby="people"><h2 id="people">Here now</h2><ul className="plain">{people.map((each) => <li key={each}>{each}</li>)}</ul></section>
      </div>
      <Text socket={socket} messages={messages} online={online} />
    </main>
  );
}

function Text({ socket, messages, online }) {
  const end = useRef(null);
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'nearest' });
  }, [messages]);
  function submit(event) {
    event.preventDefault();
    const text = new FormData(event.target).get('text').trim();
    if (text) socket.emit('say', text);
    event.target.reset();
  }
  return (
    <section className="card" aria-label="Messages">
      <ol id="messages" className="plain" role="log" tabIndex="0">
        {messages.map(({ id, name, text, at }) => (
          <li key={id}><strong>{name}</strong> <time className="soft" dateTime={at}>{new Date(at).toLocaleTimeString([], { timeStyle: 'short' })}</time><div>{text}</div></li>
        ))}
        <li ref={end} role="none" hidden={messages.length === 0} />
      </ol>
      <form className="row" onSubmit={submit}>
        <input name="text" className="grow" aria-label="Message" autoComplete="off" maxLength="2000" disabled={!online} />
        <button className="primary" disabled={!online}>Send</button>
      </form>
    </section>
  );
}

function VoiceChannel({ socket, online, members }) {
  const [voice, setVoice] = useState(null);
  const [streams, setStreams] = useState(new Map());
  const [muted, setMuted] = useState(false);
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    const ids = members.map(({ peer }) => peer);
    if (voice && ids.includes(voice.id)) voice.setMembers(ids); // a list without us is older than our coming in
  }, [voice, members]);
  useEffect(() => () => voice?.close(), [voice]);
  const here = useRef(true);
  useEffect(() => () => (here.current = false), []);
  useEffect(() => {
    if (online && voice) enter(voice);
  }, [online]);

  function enter(opened) {
    socket.emit('voice:enter', opened.id, ({ others, problem: refusal }) => {
      if (refusal) {
        setProblem(refusal);
        setVoice(null);
        opened.close();
        return;
      }
      opened.setMembers([...others, opened.id]);
      opened.call(others);
    });
  }

  async function join() {
    setBusy(true);
    setProblem('');
    try {
      const opened = await Voice.open(fetchIce, setStreams);
      if (!here.current) return opened.close(); // in another room by now
      setVoice(opened);
      setMuted(false);
      enter(opened);
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  }

  function leave() {
    socket.emit('voice:leave');
    setVoice(null);
    setStreams(new Map());
  }

  return (
    <section className="card voice" aria-labelledby="voice">
      <h2 id="voice">Voice</h2>
      <ul className="plain">{members.map(({ name, peer }) => <li key={peer}>{name}</li>)}</ul>
      <p className="row">
        {voice
          ? <><button aria-pressed={muted} onClick={() => (voice.mute(!muted), setMuted(!muted))}>Mute</button><button className="danger" onClick={leave}>Leave</button></>
          : <button className="primary" disabled={busy || !online} onClick={join}>Join the voice channel</button>}
      </p>
      <p role="alert">{problem}</p>
      {[...streams].map(([id, stream]) => <Sound key={id} stream={stream} />)}
    </section>
  );
}

function Sound({ stream }) {
  const element = useRef(null);
  useEffect(() => {
    element.current.srcObject = stream;
  }, [stream]);
  return <audio ref={element} autoPlay />;
}

createRoot(document.getElementById('root')).render(<App />);
