module peers/consul

go 1.13

require github.com/hashicorp/consul v1.8.19

require (
	github.com/hashicorp/consul/api v1.8.1 // indirect
	github.com/mitchellh/cli v1.1.0
)
