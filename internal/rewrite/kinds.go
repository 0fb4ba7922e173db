package rewrite

import "strings"

// knownKinds are the fields of custom resources that name images, beside containers,
// which are known wherever they are.
const knownKinds = `
ClusterConfiguration.kubeadm.k8s.io: imageRepository = prefix
ClusterConfiguration.kubeadm.k8s.io: dns.imageRepository = prefix
ClusterConfiguration.kubeadm.k8s.io: etcd.local.imageRepository = prefix
InitConfiguration.kubeadm.k8s.io: nodeRegistration.kubeletExtraArgs.pod-infra-container-image
JoinConfiguration.kubeadm.k8s.io: nodeRegistration.kubeletExtraArgs.pod-infra-container-image
KubeadmControlPlane: **.clusterConfiguration.**.imageRepository = prefix
KubeadmControlPlaneTemplate: **.clusterConfiguration.**.imageRepository = prefix
KubeadmConfig: **.clusterConfiguration.**.imageRepository = prefix
KubeadmConfigTemplate: **.clusterConfiguration.**.imageRepository = prefix
Cluster.kind.x-k8s.io: nodes[*].image
Simple.k3d.io: image
ImageTagTransformer: imageTag.newName
Workflow.argoproj.io: **.container.image
Workflow.argoproj.io: **.script.image
Workflow.argoproj.io: **.sidecars[*].image
WorkflowTemplate.argoproj.io: **.container.image
WorkflowTemplate.argoproj.io: **.script.image
WorkflowTemplate.argoproj.io: **.sidecars[*].image
ClusterWorkflowTemplate.argoproj.io: **.container.image
ClusterWorkflowTemplate.argoproj.io: **.script.image
ClusterWorkflowTemplate.argoproj.io: **.sidecars[*].image
CronWorkflow.argoproj.io: **.container.image
CronWorkflow.argoproj.io: **.script.image
CronWorkflow.argoproj.io: **.sidecars[*].image
Sensor.argoproj.io: **.container.image
Sensor.argoproj.io: **.script.image
EventSource.argoproj.io: **.container.image
EventBus.argoproj.io: **.image
AnalysisTemplate.argoproj.io: **.image
ClusterAnalysisTemplate.argoproj.io: **.image
ArgoCD.argoproj.io: **.image
Application.argoproj.io: **.helm.valuesObject = values
ApplicationSet.argoproj.io: **.helm.valuesObject = values
HelmRelease: spec.values = values
HelmRelease: spec.postRenderers[*].kustomize.images[*].newName
Kustomization.kustomize.toolkit.fluxcd.io: spec.images[*].newName
HelmChart.helm.cattle.io: spec.jobImage
IstioOperator: spec.hub = prefix
IstioOperator: spec.values = values
Task.tekton.dev: **.steps[*].image
Task.tekton.dev: **.sidecars[*].image
Task.tekton.dev: **.stepTemplate.image
ClusterTask.tekton.dev: **.steps[*].image
ClusterTask.tekton.dev: **.sidecars[*].image
ClusterTask.tekton.dev: **.stepTemplate.image
TaskRun.tekton.dev: **.steps[*].image
TaskRun.tekton.dev: **.sidecars[*].image
TaskRun.tekton.dev: **.stepTemplate.image
Pipeline.tekton.dev: **.steps[*].image
Pipeline.tekton.dev: **.sidecars[*].image
Pipeline.tekton.dev: **.stepTemplate.image
PipelineRun.tekton.dev: **.steps[*].image
PipelineRun.tekton.dev: **.sidecars[*].image
PipelineRun.tekton.dev: **.stepTemplate.image
StepAction.tekton.dev: spec.image
VirtualMachine.kubevirt.io: **.containerDisk.image
VirtualMachine.kubevirt.io: **.kernelBoot.container.image
VirtualMachine.kubevirt.io: **.source.registry.url
VirtualMachineInstance.kubevirt.io: **.containerDisk.image
VirtualMachineInstance.kubevirt.io: **.kernelBoot.container.image
VirtualMachineInstanceReplicaSet.kubevirt.io: **.containerDisk.image
VirtualMachinePool.pool.kubevirt.io: **.containerDisk.image
DataVolume.cdi.kubevirt.io: spec.source.registry.url
DataImportCron.cdi.kubevirt.io: **.source.registry.url
Prometheus.monitoring.coreos.com: spec.image
Prometheus.monitoring.coreos.com: spec.baseImage
Prometheus.monitoring.coreos.com: spec.thanos.image
PrometheusAgent.monitoring.coreos.com: spec.image
Alertmanager.monitoring.coreos.com: spec.image
Alertmanager.monitoring.coreos.com: spec.baseImage
ThanosRuler.monitoring.coreos.com: spec.image
ImagePullJob.apps.kruise.io: spec.image
ImageListPullJob.apps.kruise.io: spec.images[*]
Kafka.kafka.strimzi.io: **.image
KafkaConnect.kafka.strimzi.io: **.image
KafkaBridge.kafka.strimzi.io: **.image
KafkaMirrorMaker.kafka.strimzi.io: **.image
KafkaMirrorMaker2.kafka.strimzi.io: **.image
Jaeger.jaegertracing.io: **.image
OpenTelemetryCollector.opentelemetry.io: **.image
Instrumentation.opentelemetry.io: **.image
OpAMPBridge.opentelemetry.io: **.image
TargetAllocator.opentelemetry.io: **.image
Elasticsearch.elasticsearch.k8s.elastic.co: spec.image
Kibana.kibana.k8s.elastic.co: spec.image
Beat.beat.k8s.elastic.co: spec.image
Agent.agent.k8s.elastic.co: spec.image
ApmServer.apm.k8s.elastic.co: spec.image
Logstash.logstash.k8s.elastic.co: spec.image
Cluster.postgresql.cnpg.io: spec.imageName
ImageCatalog.postgresql.cnpg.io: spec.images[*].image
ClusterImageCatalog.postgresql.cnpg.io: spec.images[*].image
postgresql.acid.zalan.do: spec.dockerImage
postgresql.acid.zalan.do: spec.sidecars[*].image
CephCluster.ceph.rook.io: spec.cephVersion.image
Tenant.minio.min.io: **.image
PerconaXtraDBCluster.pxc.percona.com: **.image
PerconaServerMongoDB.psmdb.percona.com: **.image
PerconaPGCluster.pgv2.percona.com: **.image
RedisFailover.databases.spotahome.com: **.image
Redis.redis.redis.opstreelabs.in: **.image
RedisCluster.redis.redis.opstreelabs.in: **.image
RabbitmqCluster.rabbitmq.com: spec.image
SparkApplication.sparkoperator.k8s.io: **.image
ScheduledSparkApplication.sparkoperator.k8s.io: **.image
FlinkDeployment.flink.apache.org: **.image
CatalogSource.operators.coreos.com: spec.image
ClusterServiceVersion.operators.coreos.com: spec.relatedImages[*].image
Environment.fission.io: **.image
Function.openfaas.com: spec.image
Installation.operator.tigera.io: spec.registry = prefix
ClusterPolicy.nvidia.com: spec = values
EngineImage.longhorn.io: spec.image
EnvoyProxy.gateway.envoyproxy.io: **.image
WasmPlugin.extensions.istio.io: spec.url
BuildStrategy.shipwright.io: spec.steps[*].image
ClusterBuildStrategy.shipwright.io: spec.steps[*].image
ClusterStack.kpack.io: spec.buildImage.image
ClusterStack.kpack.io: spec.runImage.image
ClusterStore.kpack.io: spec.sources[*].image
Provider.pkg.crossplane.io: spec.package
Configuration.pkg.crossplane.io: spec.package
Function.pkg.crossplane.io: spec.package
ControllerConfig.pkg.crossplane.io: spec.image
OCIRepository.source.toolkit.fluxcd.io: spec.url
RunnerDeployment.actions.summerwind.dev: **.image
RunnerSet.actions.summerwind.dev: **.image
PodDefault.kubeflow.org: spec.sidecars[*].image
SidecarSet.apps.kruise.io: **.image
`

// knownPaths are the paths of knownKinds.
func knownPaths() ([]Path, error) {
	var paths []Path
	for line := range strings.Lines(strings.TrimSpace(knownKinds)) {
		p, err := ParsePath(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}
