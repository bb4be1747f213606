# Erlang's port mapper for our RabbitMQ alone: on a port of its own, so that one of the system is neither used nor stopped.

epmd_packages=(erlang-base)

epmd_setup() { claim_port epmd; }

epmd_start() {
	launch_server epmd epmd -address 127.0.0.1 -port "$(port_of epmd)"
	wait_ready epmd 30 epmd_ready           # RabbitMQ, which comes next, would start one that stays
}

epmd_ready() { ERL_EPMD_PORT=$(port_of epmd) epmd -names; }
epmd_env() { :; }
