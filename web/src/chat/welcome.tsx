/** An empty conversation: a greeting and a few ways to begin. */
import { useAuth } from "../auth";
import { Icon, Mark, type IconName } from "../ui/icons";
import { Told } from "../ui/told";
import { useStore } from "../stores";
import { useWorkspace } from "../workspace";

export const STARTS: { icon: IconName; title: string; text: string }[] = [
  { icon: "bulb", title: "Think something through", text: "Help me think through a decision: " },
  { icon: "pencil", title: "Write a first draft", text: "Write a short, friendly e-mail that " },
  { icon: "book", title: "Explain it simply", text: "Explain in simple words: " },
  { icon: "tool", title: "Find the bug", text: "What is wrong with this code?\n\n```python\n\n```" },
];

function greeting(hour: number): string {
  if (hour >= 5 && hour < 12) return "Good morning";
  return hour >= 12 && hour < 18 ? "Good afternoon" : "Good evening";
}

export function Welcome({ onPick }: { onPick: (text: string) => void }) {
  const { preferences } = useWorkspace();
  const name = useStore(preferences)?.display_name?.trim();
  const { config } = useAuth();
  return (
    <section className="welcome">
      <Mark size={44} />
      <h1>
        {greeting(new Date().getHours())}
        {name ? (
          <>
            , <Told text={name} />
          </>
        ) : null}
      </h1>
      <p className="quiet">What is on your mind?</p>
      <div className="starts">
        {STARTS.map((start) => (
          <button key={start.title} type="button" className="start" onClick={() => onPick(start.text)}>
            <Icon name={start.icon} size={18} />
            <span>{start.title}</span>
          </button>
        ))}
      </div>
      {config.built_in_model ? (
        <p className="hint">
          You are talking to ELIZA, a very small model built into this server.{" "}
          {config.environment === "development" ? (
            <>
              To talk to a large one, put <code>OPENROUTER_API_KEY</code> or <code>OPENAI_API_KEY</code> into <code>.env.local</code> and start the server again.
            </>
          ) : (
            "To talk to a large one, whoever runs the server sets an API key."
          )}
        </p>
      ) : null}
    </section>
  );
}
