"""`make agents`: the real command-line agents, from the npm registry, run a tool session over each kind of route.

__main__.py     installs, runs every session, writes the section of docs/agents.md
install.py      the agents' programs, in a temporary folder
stage.py        a gateway with one model for each provider format, and the simulator behind it
agent.py        what an agent is: its command, its settings, its script, how its output reads
codex.py        OpenAI's Codex, which speaks the Responses API
claude_code.py  Anthropic's Claude Code, which speaks the Messages API
session.py      one session and what must have happened in it
report.py       the section of the page

The model is the simulator's scripted session (docs/simulator.md): read a file, edit it, write another, run a command,
say what the command printed. So the agent's loop, its tools and the whole wire are real, and the text is known.
"""
