// The `Chat` of a version of the `ai` package, on a state that can be looked at: what frameworks
// bring along for it.
class State {
  status = "ready";
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    (this.messages = this.messages.map((one, at) => (at === index ? message : one)));
  snapshot = (value) => structuredClone(value);
}

export const chatOf = ({ AbstractChat }) =>
  class Chat extends AbstractChat {
    constructor({ messages = [], ...options }) {
      super({ ...options, state: new State(messages) });
    }
  };
