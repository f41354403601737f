// A whole Consul 1.8 agent, a server of a cluster of its own, on 127.0.0.1.
//
// Arguments: port dataDir [token]. Port 0 picks a free one for HTTP. With a token it asks for tokens: "root" may do everything, the
// given one, a UUID, what a node needs. Prints "STARTED port" once it answers. Ends on SIGTERM, and when standard input
// closes, so that it never outlives whoever started it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/command/agent"
	"github.com/hashicorp/consul/command/cli"
	mcli "github.com/mitchellh/cli"
)

// Below the ports that systems give away by themselves: Consul must know its own before it opens them.
const (
	firstPort = 10000
	portPairs = 4500
	deadline  = 2 * time.Minute
)

const rules = `service "SkyWalking_OAP_Cluster" { policy = "write" } node_prefix "" { policy = "read" } key_prefix "" { policy = "read" }`

// At the start, one that has data knows them for as long as no one is elected.
const elected = `performance { raft_multiplier = 1 } leave_on_terminate = false`

const secured = `acl { enabled = true default_policy = "deny" tokens { master = "root" agent = "root" } }`

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fail("arguments: port dataDir [token]")
	}
	port, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fail(err.Error())
	}
	server, gossip := freePorts()
	if port == 0 {
		port, _ = freePorts()
	}
	token := ""
	arguments := []string{
		"-server", "-bootstrap-expect", "1", "-node", "peer", "-data-dir", os.Args[2], "-bind", "127.0.0.1", "-client", "127.0.0.1",
		"-http-port", strconv.Itoa(port), "-server-port", strconv.Itoa(server), "-serf-lan-port", strconv.Itoa(gossip),
		"-serf-wan-port", "-1", "-dns-port", "-1", "-grpc-port", "-1", "-log-level", "WARN", "-hcl", elected,
	}
	if len(os.Args) == 4 {
		token = os.Args[3]
		arguments = append(arguments, "-hcl", secured)
	}
	go func() {
		until(port, "GET", "/v1/status/leader", nil, func(body string) bool { return len(body) > 2 })
		if token != "" {
			policy := map[string]interface{}{"Name": "node", "Rules": rules}
			until(port, "PUT", "/v1/acl/policy", policy, nil)
			owner := map[string]interface{}{"SecretID": token, "Policies": []map[string]string{{"Name": "node"}}}
			until(port, "PUT", "/v1/acl/token", owner, nil)
		}
		fmt.Println("STARTED", port)
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	ui := &cli.BasicUI{BasicUi: mcli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}}
	os.Exit(agent.New(ui).Run(arguments))
}

// until asks until it is answered. What is there already is fine.
func until(port int, method, path string, body interface{}, isEnough func(string) bool) {
	last := ""
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		sent, _ := json.Marshal(body)
		request, _ := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), bytes.NewReader(sent))
		request.Header.Set("X-Consul-Token", "root")
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			last = err.Error()
			continue
		}
		got, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		last = answer.Status + " " + string(got)
		if strings.Contains(last, "already") || answer.StatusCode == 200 && (isEnough == nil || isEnough(string(got))) {
			return
		}
	}
	fail(path + ": " + last)
}

var next = os.Getpid() % portPairs

// freePorts finds two that are free for TCP and UDP.
func freePorts() (int, int) {
	for at := 0; at < portPairs; at++ {
		first := firstPort + 2*next
		next = (next + 1) % portPairs
		if isFree(first) && isFree(first+1) {
			return first, first + 1
		}
	}
	fail("no free ports")
	return 0, 0
}

func isFree(port int) bool {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	stream, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	stream.Close()
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	packets.Close()
	return true
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
