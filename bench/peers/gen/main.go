// Command gen writes the messages of a .proto file as protoc-gen-go does, for grpc-go. Kitex writes its own, by another
// library, and there is no protoc here.
package main

import (
	"log"
	"os"
	"path/filepath"

	"github.com/jhump/protoreflect/desc/protoparse"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	source, out, importPath := os.Args[1], os.Args[2], os.Args[3]
	name := filepath.Base(source)
	parser := protoparse.Parser{ImportPaths: []string{filepath.Dir(source)}}
	parsed, err := parser.ParseFiles(name)
	if err != nil {
		log.Fatal(err)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{name},
		Parameter:      proto.String("paths=source_relative,M" + name + "=" + importPath),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{parsed[0].AsFileDescriptorProto()},
	}
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		log.Fatal(err)
	}
	internal_gengo.GenerateFile(plugin, plugin.FilesByPath[name])
	response := plugin.Response()
	if response.Error != nil {
		log.Fatal(*response.Error)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		log.Fatal(err)
	}
	for _, file := range response.File {
		if err := os.WriteFile(filepath.Join(out, filepath.Base(file.GetName())), []byte(file.GetContent()), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
