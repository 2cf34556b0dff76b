# What bash reads (BASH_ENV) before a command of a shell session: at its end it tells commander.py of its environment.
# A command that sets an EXIT trap of its own, that execs another program or is killed keeps nothing.
trap '/usr/bin/env -0 2>/dev/null >&254' EXIT
unset BASH_ENV
if [[ -v CARREL_BASH_ENV ]]; then
    export BASH_ENV="$CARREL_BASH_ENV"
    unset CARREL_BASH_ENV
    [[ -r $BASH_ENV ]] && . "$BASH_ENV"
fi
